"""What a certification states: certainty.json of a run folder, and the column `decided`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from reports.results import with_column
from sweep.certainty.certification import Cell, Certification
from sweep.certainty.decide import verdict

if TYPE_CHECKING:
    import pyarrow as pa


def document(certified: Certification) -> dict[str, Any]:
    """The file: level, looks, windows, and each cell."""
    used, every = certified.windows()
    return {
        "alpha": certified.start.alpha,
        "looks": list(certified.start.looks),
        "windows_of_text": certified.start.of_text,
        "windows_used": used,
        "windows_of_all": every,
        "cells": [_cell(certified, cell) for cell in certified.cells if cell.members],
    }


def _cell(certified: Certification, cell: Cell) -> dict[str, Any]:
    """A cell by its budget and any of its points; keys of points name the others."""
    came, choice = cell.outcome, cell.outcome.choice
    needed = certified.windows_needed(cell)
    return {
        "member": cell.members[0].point_key,
        "budget": cell.budget.written,
        "decided": came.decided,
        "choice": choice.name if choice else None,
        "bound": _finite(certified.bounds(choice.statistic).high) if choice else None,
        "estimated": came.estimated.name if came.estimated else None,
        "rivals": [rival.name for rival in came.rivals],
        "windows_needed": None if came.decided else _finite(needed),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def marked(certified: Certification, table: pa.Table) -> pa.Table:
    """The table with the column `decided`: by budget, what is certain of each candidate."""
    by_point: dict[str, dict[str, str]] = {}
    for cell in certified.cells:
        for candidate in cell.candidates:
            said = verdict(certified.bounds(candidate.statistic), cell.budget.amount)
            named = "choice" if candidate == cell.outcome.choice else said
            by_point.setdefault(candidate.name, {})[cell.budget.written] = named
    values = [
        json.dumps(by_point[key]) if key in by_point else None
        for key in table.column("point_key").to_pylist()
    ]
    return with_column(table, "decided", values)
