"""`report.json`: the whole report for machines, with a versioned schema (docs/report.md).

A figure that was not measured is null. Each point names its tasks, its seed and the command that
computes it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reports.findings.decisions import Decision, Interpolated
from reports.findings.points import Point, Setting
from reports.pages.summary import read_size_caveats
from reports.reading.command import recompute
from reports.reading.run import Run
from reports.results import Row

SCHEMA_NAME = "flash-sweep/report"
SCHEMA_VERSION = 1
"""Raised when a reader of the former version would go wrong; new keys alone do not raise it."""

_PLACED = ("series", "bound", "task_keys", "seed", "status", "error")
_IDENTITY = frozenset((*_PLACED, *Setting.__dataclass_fields__))


def render(run: Run) -> str:
    """`report.json` as text."""
    return json.dumps(document(run), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def document(run: Run) -> dict[str, Any]:
    """The report as JSON values."""
    position = {setting: i for i, setting in enumerate(run.settings)}
    return {
        "schema": SCHEMA_NAME,
        "schema_version": SCHEMA_VERSION,
        "title": run.title,
        "budgets": [{"label": b.label, **asdict(b)} for b in run.budgets],
        "settings": [_clean({**asdict(s), "id": i}) for s, i in position.items()],
        "decisions": [_decision(d, position[d.setting]) for d in run.decisions],
        "certainty": _certainty(run),
        "findings": list(run.sentences),
        "points": [
            _point(point, row, position[point.setting], run)
            for point, row in zip(run.points, run.rows, strict=True)
        ],
        "notes": [*run.notes, *read_size_caveats(run)],
        "problems": list(run.problems),
        "plan": _clean(run.plan),
        "provenance": _clean(run.provenance),
    }


def _decision(d: Decision, setting: int) -> dict[str, Any]:
    named = {n: getattr(d, n) for n in ("dense", "best", "runner_up", "conservative", "bound")}
    return {
        "setting": setting,
        "budget": d.budget.label,
        "limit": clean(d.limit),
        "certainty": d.certainty,
        "message": d.message,
        "unmeasured": d.unmeasured,
        "certified": _certified(d),
        **{name: _key(point) for name, point in named.items()},
        "tokens_per_s": clean(d.best.tokens_per_s) if d.best else None,
        "gain": clean(d.best.gain) if d.best else None,
        "interpolated": _interpolated(d.interpolated),
        "methods": [
            {
                "series": m.series,
                "best": _key(m.best),
                "interpolated": _interpolated(m.interpolated),
            }
            for m in d.methods
        ],
    }


def _certainty(run: Run) -> dict[str, Any] | None:
    """At which level, looks and windows choices are certain; null where that was not asked."""
    said = run.statement
    if said is None:
        return None
    names = ("alpha", "looks", "windows_of_text", "windows_used", "windows_of_all")
    return {name: clean(getattr(said, name)) for name in names}


def _certified(d: Decision) -> dict[str, Any] | None:
    cell = d.certified
    if cell is None:
        return None
    return {
        "decided": cell.decided,
        "choice": _key(cell.choice),
        "bound": clean(cell.bound),
        "estimated": _key(cell.estimated),
        "rivals": [rival.point_key for rival in cell.rivals],
        "windows_needed": clean(cell.windows_needed),
    }


def _key(point: Point | None) -> str | None:
    return None if point is None else point.point_key


def _interpolated(reading: Interpolated | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    between = [reading.below.point_key, reading.above.point_key]
    return {"tokens_per_s": clean(reading.tokens_per_s), "between": between}


def _point(point: Point, row: Row, setting: int, run: Run) -> dict[str, Any]:
    """A point: what it is, its figures, and where they come from."""
    figures = {name: value for name, value in row.items() if name not in _IDENTITY}
    return {
        **_clean(figures),
        "setting": setting,
        "series": point.series,
        "gain": clean(point.gain),
        "bound": point.bound,
        "status": point.status,
        "error": point.error,
        "seed": clean(row.get("seed")),
        "task_keys": _task_keys(row.get("task_keys")),
        "command": recompute(run.provenance, str(row.get("sweep") or run.title), point.point_key),
    }


def _task_keys(written: Any) -> list[str]:
    try:
        keys = json.loads(written or "[]")
    except (TypeError, ValueError):
        return []
    return [str(key) for key in keys] if isinstance(keys, list) else []


def _clean(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): clean(value) for key, value in values.items()}


def clean(value: Any) -> Any:
    """`value` as JSON has it: null for what is not finite, text for what JSON does not know."""
    if isinstance(value, Mapping):
        return _clean(value)
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
