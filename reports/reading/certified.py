"""What is certain of a run, from certainty.json and the points of its table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.findings.budgets import Budget
from reports.findings.certified import Certified, Statement
from reports.findings.points import Point
from reports.results import ReportError

FILE = "certainty.json"


def read(folder: Path, points: Sequence[Point]) -> tuple[Statement | None, str]:
    """The statement of a run folder, None where there is none; and what is wrong with it."""
    path = folder / FILE
    if not path.is_file():
        return None, ""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _statement(document, {point.point_key: point for point in points}), ""
    except (ValueError, LookupError, TypeError, OSError, ReportError) as error:
        return None, f"{FILE} cannot be read ({error!r}), so what is certain is left out."


def _statement(document: Any, by_key: dict[str, Point]) -> Statement:
    cells = [_cell(cell, by_key) for cell in document["cells"]]
    return Statement(
        alpha=float(document["alpha"]),
        looks=tuple(int(count) for count in document["looks"]),
        windows_of_text=int(document["windows_of_text"]),
        windows_used=int(document["windows_used"]),
        windows_of_all=int(document["windows_of_all"]),
        cells={(cell.setting, cell.budget): cell for cell in cells},
    )


def _cell(cell: Any, by_key: dict[str, Point]) -> Certified:
    choice, estimated = (by_key.get(cell[name] or "") for name in ("choice", "estimated"))
    needed = cell["windows_needed"]
    return Certified(
        setting=by_key[cell["member"]].setting,
        budget=Budget.parse(cell["budget"]),
        decided=bool(cell["decided"]),
        choice=choice,
        bound=math.nan if cell["bound"] is None else float(cell["bound"]),
        estimated=estimated,
        rivals=tuple(by_key[key] for key in cell["rivals"]),
        windows_needed=math.inf if needed is None else float(needed),
    )
