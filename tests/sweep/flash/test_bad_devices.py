"""Devices that no storage can be like: one clear error in the sweep file's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.errors import SimulatorError
from sweep.errors import InputError
from sweep.plan.grid import expand
from tests.sweep.tinysweep import sweep_of

OWN = {"device": "mine", "dram_gb": 1, "flash_gbps": 1, "dram_gbps": 10}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"flash": {"depth": {"1": [[4096, 1.0], [8192, 3.0]]}}},
            "a read of 8192 bytes at 3 GB/s takes no more time than one of 4096 bytes",
        ),
        ({"flash": {"depth": {"1": [[8192, 1.0], [4096, 1.0]]}}}, "sizes must ascend"),
        ({"flash": {"depth": {"1": [[4096, 1.0]]}}}, "at least 2"),
        ({"flash": {"depth": {"0": [[4096, 1.0], [8192, 1.1]]}}}, "depth"),
        ({"io_depth": 0}, "0 is given; a whole number of at least 1"),
        ({"latency_us": -1}, "-1 is given; a number of at least 0"),
        ({"align_bytes": 0}, "0 is given; a whole number of at least 1"),
        (
            {"latency_us": 1, "flash": {"depth": {"1": [[4096, 1.0], [8192, 1.1]]}}},
            "has a table of reads and latency_us; one must be 0",
        ),
    ],
)
def test_one_clear_error(
    tiny_llama: Path, tiny_text: str, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises((InputError, SimulatorError), match=words):
        expand(sweep_of(tiny_llama, tmp_path, tiny_text, "dense", devices=[{**OWN, **changed}]))
