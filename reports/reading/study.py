"""A study beside a run: its trials, what mattered, and the fit, as `sweep tune` leaves them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEXTS = ("setting", "state", "feasible")
MOST = 5000
"""Trials that the page draws; of more, the first."""


def read(folder: Path) -> dict[str, Any] | None:
    """The study of a run folder as JSON values, or None where the folder has none.

    `trials` are columns of trials.csv, `study` is study.json and `fit` allocation.json, each None
    where that file is absent or cannot be read.
    """
    trials = _trials(folder / "trials.csv")
    if trials is None:
        return None
    return {
        "trials": trials,
        "study": _mapping(folder / "study.json"),
        "fit": _mapping(folder / "allocation.json"),
    }


def _trials(path: Path) -> dict[str, list[Any]] | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for _, row in zip(range(MOST), csv.DictReader(file), strict=False)]
    except (OSError, ValueError, csv.Error):
        return None
    if not rows or not {"setting", "trial", "state"} <= set(rows[0]):
        return None
    return {name: [_value(name, row.get(name)) for row in rows] for name in rows[0] if name}


def _value(name: str, written: str | None) -> float | str | None:
    """A number where it reads as one; a text otherwise, and None for nothing."""
    if not written:
        return None
    if name in _TEXTS:
        return written
    try:
        value = float(written)
    except ValueError:
        return written
    return value if math.isfinite(value) else None


def _mapping(path: Path) -> Mapping[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
