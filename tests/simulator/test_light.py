"""Geometry, devices, footprint and time: all of it plain arithmetic."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator
from simulator import (
    Device,
    Geometry,
    PhaseCounts,
    SimulatorError,
    Storage,
    allocate,
    footprint,
    phase_counts,
    selfcheck,
    throughput,
    uniform_reads,
)
from tests.simulator.cases import many

TINY = Geometry("tiny", 2, 8, 16, 4, 2, 2, 10)
PLAIN = Storage(bits=8, group_size=0, embedding_bits=8, kv_bits=8, kv_tokens=0)
A18 = Device.load("apple-a18")


def test_planning_needs_no_compiler() -> None:
    code = "import sys, simulator; print(simulator.POLICIES.keys()); print('numba' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "False"


def test_every_public_name_exists() -> None:
    for name in simulator.__all__:
        assert getattr(simulator, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = simulator.simulat  # type: ignore[attr-defined]


@pytest.mark.parametrize("check", selfcheck.rows(), ids=lambda c: f"{c.where} {c.what}")
def test_published_figures(check: selfcheck.Check) -> None:
    assert check.computed_text == check.published_text
    assert check.equal


def test_the_page_of_checks_is_up_to_date(pytestconfig: pytest.Config) -> None:
    page = pytestconfig.rootpath / "docs" / "selfcheck.md"
    assert page.read_text(encoding="utf-8") == selfcheck.markdown()


def test_a_check_that_fails_says_so() -> None:
    cell = selfcheck.Cell("Table 2", "phi-3-medium", "dense")
    assert not selfcheck.Check("what", "where", 0.296, 0.29, 2, cell).equal
    assert selfcheck.Check("what", "where", 0.294, 0.29, 2, cell).equal


def test_weights_are_counted_by_hand() -> None:
    # q and o: 8 x 8 each, k and v: 8 x 4 each; MLP: 3 x 8 x 16; embedding and head: 2 x 10 x 8
    assert TINY.attention_weights == 64 + 64 + 32 + 32
    assert TINY.mlp_weights == 384
    assert footprint(TINY, [], PLAIN).total_bytes == 2 * (192 + 384) + 160


@pytest.mark.parametrize(
    ("groups", "units", "unit_weights", "dense"),
    [
        (["input"], [8], [32], 128),
        (["intermediate"], [16], [8], 256),
        (["input", "intermediate"], [8, 16], [32, 8], 0),
        (["neuron"], [16], [24], 0),
        (["gate-neuron"], [16], [16], 128),
        (["up-neuron"], [16], [16], 128),
    ],
)
def test_groups(groups: list[str], units: list[int], unit_weights: list[int], dense: int) -> None:
    sizes = footprint(TINY, groups, PLAIN)
    assert [sizes.groups[g].units for g in groups] == units
    assert [sizes.groups[g].unit_bytes for g in groups] == unit_weights
    assert sizes.static_bytes == 160 + 2 * (192 + dense)
    assert sizes.total_bytes == footprint(TINY, [], PLAIN).total_bytes


def test_overhead_is_static() -> None:
    plain, more = footprint(TINY, ["input"], PLAIN), footprint(TINY, ["input"], PLAIN, 1000)
    assert more.static_bytes == plain.static_bytes + 1000


def test_storage() -> None:
    assert Storage().bits_per_weight == 4.125
    assert Storage(bits=16, group_size=0).bytes_per_weight == 2
    assert TINY.kv_bytes(Storage(kv_tokens=3, kv_bits=16)) == 2 * 2 * 2 * 2 * 3 * 2


def test_allocation() -> None:
    sizes = footprint(TINY, ["input", "intermediate"], PLAIN)
    half = allocate(sizes, sizes.static_bytes + 0.5 * sizes.pruned_bytes)
    assert (half.fraction, dict(half.slots)) == (0.5, {"input": 4, "intermediate": 8})
    assert (half.resident_bytes, half.excess_bytes) == (sizes.static_bytes, 0)
    short = allocate(sizes, sizes.static_bytes - 100)
    assert (short.fraction, dict(short.slots)) == (0, {"input": 0, "intermediate": 0})
    assert (short.resident_bytes, short.excess_bytes) == (sizes.static_bytes - 100, 100)
    assert allocate(sizes, 1e9).fraction == 1
    assert allocate(footprint(TINY, [], PLAIN), 1e9).fraction == 1


@given(st.floats(1, 5000), st.floats(0, 200))
@many(200)
def test_allocation_never_exceeds_the_dram(dram: float, overhead: float) -> None:
    sizes = footprint(TINY, ["input", "intermediate"], PLAIN, overhead)
    room = allocate(sizes, dram)
    cached = sum(
        room.slots[name] * size.unit_bytes * size.layers for name, size in sizes.groups.items()
    )
    assert room.resident_bytes + cached <= dram * (1 + 1e-12)
    assert room.resident_bytes + room.excess_bytes == pytest.approx(sizes.static_bytes)


def by_hand(device: Device, used: np.ndarray, missed: np.ndarray, overlap: bool) -> float:
    """Seconds of all tokens, phase by phase, for TINY with the group `input` pruned."""
    sizes = footprint(TINY, ["input"], PLAIN)
    room, unit = allocate(sizes, device.dram_bytes), sizes.groups["input"].unit_bytes
    phases = [(room.excess_bytes, room.resident_bytes)] * used.shape[1]
    phases += [(m * unit, u * unit) for u, m in zip(used.flat, missed.flat, strict=True)]
    total = 0.0
    for flash_bytes, dram_bytes in phases:
        flash, dram = flash_bytes / device.flash_gbps, dram_bytes / device.dram_gbps
        total += max(flash, dram) if overlap else flash + dram
    return total / 1e9


@pytest.mark.parametrize("timing", ["overlap", "serial"])
@pytest.mark.parametrize("dram_gb", [200e-9, 900e-9])
def test_time_is_the_sum_over_phases(timing: str, dram_gb: float) -> None:
    rng = np.random.default_rng(3)
    used = rng.integers(0, 9, (2, 50))
    missed = rng.integers(0, used + 1)
    for flash, dram in ((1, 60), (7, 8), (60, 1)):
        device = Device("phone", dram_gb, flash, dram, timing)
        speed = throughput(TINY, device, {"input": phase_counts(used, missed)}, 50, PLAIN)
        seconds = by_hand(device, used, missed, timing == "overlap")
        assert speed.tokens_per_s == pytest.approx(50 / seconds, rel=1e-12)
        total = speed.static_seconds + sum(speed.group_seconds.values())
        assert speed.seconds_per_token == pytest.approx(total)
        assert speed.hit_rate == pytest.approx(1 - missed.sum() / used.sum())


def test_bytes_per_token() -> None:
    sizes = footprint(TINY, ["input"], PLAIN)
    device = Device("phone", (sizes.static_bytes - 50) / 1e9, 1, 60)
    reads = PhaseCounts(np.array([4, 5]), np.array([1, 5]), np.array([3, 1]))
    speed = throughput(TINY, device, {"input": reads}, 2, PLAIN)
    assert speed.flash_bytes_per_token == 50 + (3 * 1 + 5) * 32 / 2
    assert speed.dram_bytes_per_token == sizes.static_bytes - 50 + (3 * 4 + 5) * 32 / 2
    assert throughput(TINY, device, {}, 2, PLAIN).hit_rate is None


def test_a_faster_device_is_never_slower() -> None:
    reads = {"input": uniform_reads(0.5, 0.3, 5120, 40)}
    geometry = Geometry.load("phi-3-medium")
    for field in ("dram_gb", "flash_gbps", "dram_gbps"):
        speeds = [
            throughput(
                geometry,
                Device.load({"device": "apple-a18", field: getattr(A18, field) * f}),
                reads,
                1,
            ).tokens_per_s
            for f in (0.5, 1, 1.5, 2, 4)
        ]
        assert speeds == sorted(speeds)


def test_phase_counts() -> None:
    counts = phase_counts([[3, 2], [3, 3]], [[1, 0], [1, 2]])
    assert counts.to_json() == {"used": [2, 3, 3], "missed": [0, 1, 2], "count": [1, 2, 1]}
    assert (counts.used_total, counts.missed_total, counts.hits_total) == (11, 4, 7)
    assert PhaseCounts.from_json(counts.to_json()) == counts
    twice = counts.merge([counts])
    assert twice.count.tolist() == [2, 4, 2]
    assert twice != counts
    assert phase_counts([], []).phases == 0
    assert counts.merge(phase_counts([], [])) == counts


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
@many(200)
def test_phase_counts_lose_nothing(pairs: list[tuple[int, int]]) -> None:
    used = np.array([max(pair) for pair in pairs], dtype=np.int64)
    missed = np.array([min(pair) for pair in pairs], dtype=np.int64)
    counts = phase_counts(used, missed)
    listed = zip(counts.used.tolist(), counts.missed.tolist(), counts.count.tolist(), strict=True)
    again = [pair for u, m, n in listed for pair in [(u, m)] * n]
    assert again == sorted(zip(used.tolist(), missed.tolist(), strict=True))


def test_devices_are_listed() -> None:
    assert len(Device.names()) > 20
    assert (A18.dram_gb, A18.flash_gbps, A18.dram_gbps) == (4, 1, 60)


def test_devices_from_mappings() -> None:
    own = Device.load({"device": "apple-a18", "dram_gb": 2})
    assert (own.name, own.dram_gb, own.dram_gbps) == ("apple-a18", 2, 60)
    new = Device.load({"device": "my-phone", "dram_gb": 4, "flash_gbps": 2, "dram_gbps": 50})
    assert (new.name, new.timing) == ("my-phone", "overlap")
    assert Device.load(new.to_mapping()) == new


def test_geometries() -> None:
    assert set(Geometry.names()) >= {"phi-3-medium", "phi-3-mini", "llama-3-8b", "mistral-7b"}
    mini = Geometry.load("phi-3-mini")
    assert Geometry.load(mini.to_mapping()) == mini
    config = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
    assert Geometry.from_config(config, "smollm2-135m") == Geometry.load("smollm2-135m")
    assert Geometry.from_config({"text_config": config}, "x").hidden == 576


BAD = {
    "unknown device": (lambda: Device.load("apple-a81"), "did you mean 'apple-a18'"),
    "unknown device in a mapping": (
        lambda: Device.load({"device": "apple-a81"}),
        "did you mean 'apple-a18'",
    ),
    "a custom device without DRAM": (
        lambda: Device.load({"device": "mine", "flash_gbps": 1, "dram_gbps": 2}),
        "lacks dram_gb",
    ),
    "DRAM of zero": (
        lambda: Device.load({"device": "apple-a18", "dram_gb": 0}),
        "dram_gb is 0; it must be a number > 0",
    ),
    "DRAM as text": (
        lambda: Device.load({"device": "apple-a18", "dram_gb": "4"}),
        "dram_gb is '4'; it must be a number",
    ),
    "infinite bandwidth": (lambda: Device("x", 1, math.inf, 1), "flash_gbps is inf"),
    "unknown timing": (lambda: Device("x", 1, 1, 1, "parallel"), "unknown timing 'parallel'"),
    "unknown field": (
        lambda: Device.load({"device": "apple-a18", "dram": 3}),
        "unknown field of a device 'dram'; did you mean 'dram_gb'",
    ),
    "unknown geometry": (lambda: Geometry.load("phi-3-large"), "unknown geometry 'phi-3-large'"),
    "geometry without layers": (lambda: Geometry.load({"name": "x"}), "lacks layers"),
    "geometry of no layers": (
        lambda: Geometry("x", 0, 8, 16, 4, 2, 2, 10),
        "layers is 0; it must be a whole number of at least 1",
    ),
    "config without sizes": (lambda: Geometry.from_config({}, "x"), "gives no geometry"),
    "unknown group": (lambda: footprint(TINY, ["inputs"]), "did you mean 'input'"),
    "groups that overlap": (
        lambda: footprint(TINY, ["input", "neuron"]),
        "prune the same matrix twice",
    ),
    "negative overhead": (lambda: footprint(TINY, [], PLAIN, -1), "overhead_bytes is -1"),
    "bits of zero": (lambda: Storage(bits=0), "bits is 0"),
    "counts of other tokens": (
        lambda: throughput(TINY, A18, {"input": phase_counts([1], [1])}, 1),
        "has 1 phases; 1 tokens in 2 layers make 2",
    ),
    "counts of too many units": (
        lambda: throughput(TINY, A18, {"input": phase_counts([9, 9], [1, 1])}, 1),
        "uses 9 units of 8",
    ),
    "no tokens": (lambda: throughput(TINY, A18, {}, 0), "tokens is 0"),
    "more missed than used": (lambda: phase_counts([1], [2]), "0 <= missed <= used"),
    "counts of different lengths": (lambda: phase_counts([1], [2, 3]), "they must be equal"),
    "counts that are not finite": (
        lambda: PhaseCounts(np.array([np.nan]), np.array([0.0]), np.array([1])),
        "not finite",
    ),
    "a histogram without a field": (
        lambda: PhaseCounts.from_json({"used": [1], "missed": [1]}),
        "lack the field 'count'",
    ),
    "a hit rate above one": (lambda: uniform_reads(0.5, 1.1, 10, 2), "must be in .0, 1."),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_error(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(SimulatorError, match=message):
        call()
