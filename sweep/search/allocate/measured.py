"""Points of an allocation, measured through the plan and the store of every other run.

A measurement is a point like those of a grid, with shares by layer: equal content is one task, so
nothing is measured twice, an interrupted allocation goes on, and workers change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.errors import SweepError
from sweep.execution.session import Session
from sweep.plan import planner as planning
from sweep.plan.materials import Materials
from sweep.plan.point import Point
from sweep.results.rows import table_of
from sweep.search.allocate.asked import with_shares
from sweep.search.allocate.targets import Floats


class MeasureError(SweepError):
    """A measurement failed; the message has its error."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a table of shares."""

    table: Floats
    """Shares [layers, groups]."""
    kl: float
    missed: Floats
    """Bytes that a token reads from Flash in the mean, [layers, groups]."""
    row: dict[str, Any]

    @property
    def bytes(self) -> float:
        """Bytes that a token reads from Flash for all groups of all layers."""
        return float(self.missed.sum())


class Bench:
    """Measures tables of one setting."""

    def __init__(
        self, point: Point, groups: Sequence[str], session: Session, materials: Materials
    ) -> None:
        self.point, self.groups = point, tuple(groups)
        self.session, self.materials = session, materials
        self.layers = materials.geometry(point).layers

    def points(self, tables: Iterable[Floats]) -> list[Point]:
        """The points of tables [layers, groups]."""
        return [with_shares(self.point, self.groups, table) for table in tables]

    def measure(self, tables: Sequence[Floats]) -> list[Measured]:
        """Run what the store lacks. Raises MeasureError, and StoppedError after a signal."""
        plan = planning.plan_points(self.points(tables), self.materials)
        self.session.run_all(plan)
        rows = table_of(plan.points, self.session.store, self.materials).to_pylist()
        return [self._read(table, row) for table, row in zip(tables, rows, strict=True)]

    def _read(self, table: Floats, row: dict[str, Any]) -> Measured:
        if row["status"] != "done":
            raise MeasureError(f"a measurement failed: {row['error'] or 'a task that it needs'}")
        counted = json.loads(row.pop("reads"))
        missed = [self._missed(counted[group], row["tokens"]) for group in self.groups]
        return Measured(table, float(row["kl"]), np.stack(missed, axis=1), row)

    @staticmethod
    def _missed(counts: dict[str, Any], tokens: int) -> Floats:
        used = np.array(counts["used_by_layer"], dtype=np.float64)
        hits = np.array(counts["hits_by_layer"] or 0, dtype=np.float64)
        return (used - hits) * counts["unit_bytes"] / tokens


# -- tables --------------------------------------------------------------------------------------


def whole(layers: int, groups: int) -> Floats:
    """Nothing left out."""
    return np.ones((layers, groups))


def changed(table: Floats, layer: int, group: int, share: float) -> Floats:
    """The table with another share of one group in one layer."""
    table = table.copy()
    table[layer, group] = share
    return table
