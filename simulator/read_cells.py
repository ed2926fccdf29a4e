"""Places in a group's file, and what a read between two of them costs, as arrays for the kernels.

Places are counted in cells. Without alignment a cell is a unit, so that the bytes of a plan are
those of its units to the digit; with alignment it is `align_bytes`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.arguments import whole
from simulator.errors import check_number
from simulator.read_cost import ReadCost

_ROUNDED = 1 - 1e-9  # so that a least slope is one in spite of rounding


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A read of the units from `i` to before `j` takes the cells from `low[i]` to before `high[j]`.

    `low` and `high` are int64 `[units + 1]`; `cell_bytes` is the size of a cell. The group's first
    unit lies at an aligned place.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    cell_bytes: float

    @property
    def all_cells(self) -> int:
        """Cells of a read of the whole group."""
        return int(self.high[-1])

    def bytes_of(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bytes of so many cells."""
        return cells.astype(np.float64) * self.cell_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """Seconds of a read by its cells: `near[cells]`, or `latency + slope * cells` beyond them.

    `near` is empty for the affine law. A cell more costs at least `least_slope` seconds.
    """

    near: NDArray[np.float64]
    latency: float
    slope: float
    least_slope: float


@functools.lru_cache(maxsize=64)
def cells_of(units: int, unit_bytes: float, align_bytes: int = 1) -> Cells:
    """Where the units of a group lie; SimulatorError for sizes that are not above 0."""
    check_number("reads", "unit_bytes", unit_bytes, 0, strict=True)
    align = whole("align_bytes", align_bytes, 1)
    places = np.arange(units + 1, dtype=np.int64)
    if align == 1:
        return Cells(places, places, float(unit_bytes))
    exact = places * unit_bytes / align
    return Cells(np.floor(exact).astype(np.int64), np.ceil(exact).astype(np.int64), float(align))


@functools.lru_cache(maxsize=64)
def law_of(cost: ReadCost, cell_bytes: float, all_cells: int) -> Law:
    """The cost of reads of up to `all_cells` cells."""
    latency, slope = cost.latency_us * 1e-6, cell_bytes / (cost.gbps * 1e9)
    if cost.affine:
        return Law(np.zeros(0), latency, slope, slope)
    last = min(all_cells, math.ceil(cost.affine_from / cell_bytes))
    near = cost(np.arange(last + 1, dtype=np.float64) * cell_bytes)
    least = min(slope, float(np.diff(near[1:]).min(initial=np.inf)))
    return Law(near, latency, slope, least * _ROUNDED)


def most_gap(cost: ReadCost, cell_bytes: float) -> int:
    """The largest gap, in cells, whose bytes the affine law reads faster than it begins a read."""
    latency_bytes = cost.latency_us * cost.gbps * 1e3
    cells = int(latency_bytes / cell_bytes) + 1
    while cells * cell_bytes >= latency_bytes and cells >= 0:
        cells -= 1
    return cells
