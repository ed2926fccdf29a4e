"""Devices as curves: what kind each is, what a read costs on it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from simulator import Device, ReadCost, SimulatorError

FLASH = {"depth": {1: [[16384, 0.151], [65536, 0.444]], 8: [[4096, 0.315], [65536, 1.962]]}}
OWN: dict[str, Any] = {"name": "mine", "dram_gb": 4, "flash_gbps": 2, "dram_gbps": 50}


def test_the_presets_of_the_papers_model_say_no_more_than_before() -> None:
    names = [name for name in Device.names() if Device.load(name).kind == "paper"]
    assert len(names) == 27
    for name in names:
        device = Device.load(name)
        assert device.read_cost() is None
        figures = (device.name, device.dram_gb, device.flash_gbps, device.dram_gbps)
        plain = Device(*figures, source=device.source, title=device.title)
        assert dataclasses.replace(plain, flash_read_kib=device.flash_read_kib) == device


def test_families_stand_together() -> None:
    names = Device.names()
    first = names.index("apple-m1")
    assert names[0] == "apple-a12"
    assert names[first : first + 5] == (
        "apple-m1",
        "apple-m1-pro",
        "apple-m1-max",
        "apple-m1-ultra",
        "apple-m2",
    )


def test_latency_makes_the_affine_law() -> None:
    device = Device.load({**OWN, "latency_us": 110})
    assert (device.kind, device.read_cost()) == ("affine", ReadCost(latency_us=110, gbps=2))


def test_a_table_is_asked_at_the_depth_or_the_nearest_measured_below() -> None:
    device = Device.load({**OWN, "flash": FLASH, "io_depth": 8})
    assert device.kind == "curve"
    deep, shallow = (ReadCost.table(FLASH["depth"][depth]) for depth in (8, 1))
    assert device.read_cost() == deep
    assert dataclasses.replace(device, io_depth=64).read_cost() == deep
    assert dataclasses.replace(device, io_depth=7).read_cost() == shallow
    assert dataclasses.replace(device, io_depth=1).read_cost() == shallow


def test_a_device_comes_back_from_json() -> None:
    more = {
        "flash": FLASH,
        "io_depth": 8,
        "align_bytes": 4096,
        "compute_gbps": 30,
        "head_ms": 10.6,
        "idle_w": 0.5,
        "flash_nj_per_byte": [0.24, 0.82],
        "dram_nj_per_byte": [0.04, 0.16],
        "dram_cases": [{"dram_gb": 1, "source": "after hours"}],
    }
    device = Device.load({**OWN, **more})
    assert Device.load(json.loads(json.dumps(device.to_mapping()))) == device
    assert hash(Device.load(device.to_mapping())) == hash(device)


def test_the_measured_phone() -> None:
    phone = Device.load("oneplus-15r")
    assert [depth for depth, _ in phone.flash] == [1, 2, 4, 8]
    assert [len(cost.rows) for _, cost in phone.flash] == [9, 9, 10, 11]
    cost = phone.read_cost()
    assert cost is not None
    assert 2**20 / cost(2**20) / 1e9 == pytest.approx(2.806)
    assert cost(18500) == pytest.approx(24e-6, rel=0.05)  # a DIP input unit of Phi-3-Medium
    alone = dataclasses.replace(phone, io_depth=1).read_cost()
    assert alone is not None
    assert alone(18500) == pytest.approx(115e-6, rel=0.05)
    assert {gb for gb, _ in phone.dram_cases} == {1, 2, 4.1, 5}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "depth 0": ({"flash": {"depth": {0: FLASH["depth"][1]}}}, "reads in flight are at least 1"),
    "a depth in words": ({"flash": {"depth": {"all": []}}}, "flash.depth has 'all'"),
    "no depth": ({"flash": {"curve": 1}}, "unknown field of a flash of a device 'curve'"),
    "no rows": ({"flash": {"depth": {}}}, "flash.depth must hold"),
    "a number": ({"flash": 3}, "flash is 3; it must be {depth: …}"),
    "one row": ({"flash": {"depth": {1: [[4096, 1]]}}}, "device 'mine', depth 1: a table of reads"),
    "no table": ({"flash": {"depth": {1: 5}}}, "device 'mine', depth 1: "),
    "not increasing": (
        {"flash": {"depth": {1: [[4096, 1], [8192, 3]]}}},
        "a read of 8192 bytes at 3 GB/s takes no more time than one of 4096 bytes at 1 GB/s",
    ),
    "too shallow": (
        {"flash": {"depth": {8: FLASH["depth"][8]}}, "io_depth": 4},
        "io_depth is 4, below every measured depth (8)",
    ),
    "both laws": ({"flash": FLASH, "latency_us": 5}, "a table of reads and latency_us"),
    "io_depth": ({"io_depth": 0}, "io_depth is 0; it must be at least 1"),
    "align_bytes": ({"align_bytes": 0}, "align_bytes is 0; it must be at least 1"),
    "latency_us": ({"latency_us": -1}, "latency_us is -1"),
    "compute_gbps": ({"compute_gbps": "fast"}, "compute_gbps is 'fast'"),
    "one energy": ({"dram_nj_per_byte": 0.3}, "dram_nj_per_byte is 0.3; it must be [low, high]"),
    "turned energy": ({"flash_nj_per_byte": [2, 1]}, "high of flash_nj_per_byte is 1"),
    "a case": ({"dram_cases": [4]}, "it must be {dram_gb, source}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_error(case: str) -> None:
    fields, words = WRONG[case]
    with pytest.raises(SimulatorError, match=re.escape(words)):
        Device.load({**OWN, **fields})
