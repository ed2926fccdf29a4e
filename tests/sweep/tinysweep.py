"""Sweeps over a tiny model and a made-up text, in this process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from sweep import api
from sweep.plan.grid import expand
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan
from sweep.plan.planner import plan_points
from sweep.spec import file as spec
from sweep.spec.entries import Sweep

SMALL_DEJAVU: dict[str, Any] = {"width": 16, "tokens": 512, "epochs": 2}
SMALL_LORA: dict[str, Any] = {"rank": 2, "steps": 4, "learning_rate": 1e-3}


def texts(folder: Path, text: str) -> tuple[str, str]:
    """Paths of a text to report and of another to calibrate on."""
    half = len(text) // 2
    for name, part in (("reported.txt", text[:half]), ("calibration.txt", text[half:])):
        (folder / name).write_text(part, encoding="utf-8")
    return str(folder / "reported.txt"), str(folder / "calibration.txt")


def sweep_of(model: Path, folder: Path, text: str, *methods: Any, **settings: Any) -> Sweep:
    reported, calibration = texts(folder, text)
    body = {
        "models": [str(model)],
        "methods": list(methods),
        "devices": [{"device": "apple-a18", "dram_gb": 0.000224}],
        "text": reported,
        "calibration": calibration,
        "windows": 2,
        "window_tokens": 64,
        **settings,
    }
    return spec.from_mapping({"sweeps": {"tiny": body}}).sweeps["tiny"]


def planned(sweep: Sweep) -> Plan:
    return plan_points(expand(sweep).points, Materials(sweep))


def run(sweep: Sweep, out: Path) -> tuple[api.Finished, pd.DataFrame]:
    """Run it; the table has one row a point."""
    console = Console(file=io.StringIO())
    done = api.run(sweep, api.Options(out, workers=0, report=False), console)
    return done, done.table.to_pandas()
