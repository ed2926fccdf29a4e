"""What a stopwatch showed of points, as columns of the table: predicted and measured apart.

`sweep replay` leaves its figures beside the run; rows of points that it did no reads of, and of
reads that say nothing of the storage, have none that is called measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.reading import stopwatch
from reports.reading.stopwatch import MODELS, Products, Replayed
from reports.results import with_optional

if TYPE_CHECKING:
    import pyarrow as pa

VALID = "valid"
PREDICTED, MEASURED = "predicted_tokens_per_s", "measured_tokens_per_s"
Times = tuple[float, float, float]
"""Milliseconds of a token: median, least and most."""


def with_replay(table: pa.Table, folder: Path) -> pa.Table:
    """The table with columns of what was replayed in its folder; as it is where none of its points
    was."""
    lines, verdict = stopwatch.read(folder)
    by_key = {line.point_key: line for line in lines}
    of_rows = [by_key.get(key) for key in table.column("point_key").to_pylist()]
    if not any(of_rows):
        return table
    cells = [_cells(line, verdict) if line else {} for line in of_rows]
    return with_optional(table, _columns(cells))


def _columns(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """By name, the column's values; those that some row has."""
    names = dict.fromkeys(name for row in cells for name in row)
    return {name: [row.get(name) for row in cells] for name in names}


def _cells(line: Replayed, verdict: str) -> dict[str, Any]:
    refused = verdict if verdict.startswith(stopwatch.NOT_MEASURABLE) else line.reason
    cells: dict[str, Any] = {
        f"{PREDICTED}_{name}": 1e3 / line.predicted[name]
        for name in MODELS
        if line.predicted[name] > 0
    }
    cells |= _measured("", (line.measured, line.low, line.high), bool(refused))
    cells |= {"measured_verdict": refused or VALID}
    return cells | (_products(line.products, bool(refused)) if line.products else {})


def _measured(what: str, times: Times, refused: bool) -> dict[str, float | None]:
    """Tokens per second by the median time, the slowest and the fastest repeat."""
    middle, least, most = times
    by_name = {what: middle, f"{what}_low": most, f"{what}_high": least}
    return {MEASURED + end: None if refused else 1e3 / t for end, t in by_name.items()}


def _products(one: Products, refused: bool) -> dict[str, float | None]:
    measured = _measured("_products", (one.measured, one.low, one.high), refused)
    return {f"{PREDICTED}_products": 1e3 / one.predicted, **measured}
