"""A tiny sweep file, which each test changes as it likes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulator import Geometry, footprint
from simulator.geometry import Storage
from tests.e2e.runs import Make


@pytest.fixture(scope="session")
def calibration_file(tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text for calibration, which may not be the one that is reported."""
    path = tmp_path_factory.mktemp("texts") / "calibration.txt"
    path.write_text(tiny_text.upper(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def dram_gb(tiny_llama: Path) -> float:
    """DRAM for the static bytes of DIP on the tiny model, and caches for half of the rest."""
    config = json.loads((tiny_llama / "config.json").read_text())
    sizes = footprint(
        Geometry.from_config(config, "tiny"), ["input", "intermediate"], Storage(kv_tokens=32)
    )
    return (sizes.static_bytes + sizes.pruned_bytes / 2) / 1e9


@pytest.fixture
def write_sweep(
    tiny_llama: Path,
    tiny_text_file: Path,
    calibration_file: Path,
    dram_gb: float,
    tmp_path: Path,
) -> Make:
    """A function that writes sweeps.yaml with one sweep, `tiny`, with these keys changed."""
    device = {"device": "mine", "dram_gb": dram_gb, "flash_gbps": 1, "dram_gbps": 60}
    base: dict[str, Any] = {
        "models": [str(tiny_llama)],
        "text": str(tiny_text_file),
        "calibration": str(calibration_file),
        "windows": 4,
        "window_tokens": 32,
        "shard_windows": 2,
        "kv": {"tokens": 32},
        "methods": [
            "dense",
            {"method": ["glu", "up"], "density": [0.7, 0.9]},
            {"method": "dip", "density": [0.5, 0.7]},
            {"method": "dip", "density": 0.5, "gamma": 0.2, "policies": ["lfu", "lru"]},
        ],
        "devices": [{**device, "flash_gbps": [1, 2]}],
        "policies": ["lru", "belady", "none"],
    }

    def write(**changes: Any) -> Path:
        path = tmp_path / "sweeps.yaml"
        path.write_text(yaml.safe_dump({"sweeps": {"tiny": {**base, **changes}}}))
        return path

    return write
