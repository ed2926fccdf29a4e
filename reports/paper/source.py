"""What exhibits are drawn from: finished runs, and figures that others computed for them."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reports.findings.points import Point
from reports.reading.run import Run, load
from reports.results import ReportError, Row

Computed = Mapping[tuple[str, str, str, float, float], float]
"""Tokens per second that follow from a model's sizes, by (exhibit, model, method, DRAM in GB, Flash
in GB/s)."""


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """How often abs(GLU(x)) fell into each bin: `counts[layer][bin]` of scores in low <= s < high.

    Bins rise and do not overlap.
    """

    low: Sequence[float]
    high: Sequence[float]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class PaperRun:
    """One run folder. `magnitudes` by model are what its calibrations counted."""

    folder: Path
    run: Run
    rows: Mapping[str, Row]
    reads: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Mapping[str, str]] = ()
    fit: Mapping[str, Any] = field(default_factory=dict)
    magnitudes: Mapping[str, Magnitudes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """Every run that is given, and what is computed from geometry alone."""

    runs: Sequence[PaperRun]
    computed: Computed = field(default_factory=dict)
    chosen: Sequence[Point] | None = None

    @property
    def points(self) -> list[Point]:
        """The chosen points, by default all that ended well; a point of two runs counts once."""
        if self.chosen is not None:
            return list(self.chosen)
        by_key = {p.point_key: p for r in self.runs for p in r.run.points if p.status == "done"}
        return list(by_key.values())

    def of_sweeps(self, names: Collection[str], models: Collection[str]) -> Source:
        """Without points that neither these sweeps nor `models` made, if the sweeps made some: a
        larger run of another purpose then takes no twin's place."""
        keys = {k for r in self.runs for k, row in r.rows.items() if row.get("sweep") in names}
        points = self.points
        if not any(p.point_key in keys and p.setting.model not in models for p in points):
            return self
        chosen = [p for p in points if p.point_key in keys or p.setting.model in models]
        return replace(self, chosen=chosen)

    def row(self, point: Point) -> Row:
        """The row of the results table that a point is read from."""
        return next(r.rows[point.point_key] for r in self.runs if point.point_key in r.rows)

    def reads(self, point: Point) -> Mapping[str, Any]:
        """Counts by group of units of a point; empty where the run kept none."""
        return next((r.reads[point.point_key] for r in self.runs if point.point_key in r.reads), {})

    @property
    def magnitudes(self) -> dict[str, Magnitudes]:
        """Counted activations by model."""
        return {model: magnitudes for r in self.runs for model, magnitudes in r.magnitudes.items()}


def read_run(folder: Path) -> PaperRun:
    """A run folder as a source. Raises ReportError without a readable results table."""
    run = load(folder)
    return PaperRun(
        folder=folder,
        run=run,
        rows={str(row["point_key"]): row for row in run.rows},
        reads=_reads(folder / "results.parquet"),
        trials=_trials(folder / "trials.csv"),
        fit=_fit(folder / "allocation.json"),
    )


def _reads(path: Path) -> dict[str, dict[str, Any]]:
    if "reads" not in pq.read_schema(path).names:
        return {}
    table = pq.read_table(path, columns=["point_key", "reads"])
    keys: Iterable[str] = table["point_key"].to_pylist()
    return {k: json.loads(v) for k, v in zip(keys, table["reads"].to_pylist(), strict=True) if v}


def _trials(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def _fit(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        fit = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path} cannot be read: {error}") from None
    return fit if isinstance(fit, dict) else {}
