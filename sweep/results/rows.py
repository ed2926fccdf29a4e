"""Rows of some points, or of slices of them, while more of a plan may still be run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sweep.plan.materials import Materials
from sweep.plan.plan import Plan, PlannedPoint
from sweep.results import table
from sweep.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def table_of(points: Iterable[PlannedPoint], store: Store, materials: Materials) -> pa.Table:
    """One row for each point, as in the results table."""
    return table.build(Plan(points=list(points)), store, materials)


def rows_of(
    points: Iterable[PlannedPoint], store: Store, materials: Materials
) -> list[dict[str, Any]]:
    """`table_of` as plain rows, without the bulky counts."""
    return table_of(points, store, materials).drop_columns(["reads"]).to_pylist()
