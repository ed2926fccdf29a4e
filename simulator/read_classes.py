"""The sizes of reads in narrow classes, from which their seconds by another table follow.

There are `PER_OCTAVE` classes between a size and its double, and of each how many reads it has and
their bytes. A read takes what the mean size of its class takes, within a quarter of the class's
width where throughput does not fall with size: so the sum over all reads is within 0.3 %, where a
table turns in each class as sharply as it can, and mostly exact. How the sum is shared between
phases is not kept. That follows from what is: of each pair the reads, the bytes and the seconds at
the cost that they were planned with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError
from simulator.kernels import reads as kernels
from simulator.packing import pack
from simulator.read_cells import cells_of, law_of
from simulator.read_cost import ReadCost

PER_OCTAVE = 64
Rows = Sequence[Sequence[Any]]
"""(class, reads, bytes) of the classes that occur, ascending; class c begins at
`2 ** (c / PER_OCTAVE)` bytes, and the first has all that is smaller than a byte."""
Seconds = NDArray[np.float64]
Totals = tuple[NDArray[np.int64], Seconds, Seconds]
_RIDGE = 1e-12  # of few classes several combinations come equally near


def reads_by_class(
    missed: NDArray[np.bool_], unit_bytes: float, cost: ReadCost, align_bytes: int = 1
) -> tuple[Totals, Rows]:
    """`simulator.reads` token by token, and all of them by class; one pass for both.

    `missed` is bool `[tokens, units]` in the order of the layout. Raises SimulatorError for a cost
    that is no table: what is kept of the reads prices them by any latency and bandwidth anyway.
    """
    if cost.affine:
        raise SimulatorError("classes of reads are for tables: a law of two numbers needs none")
    cells = cells_of(missed.shape[1], unit_bytes, align_bytes)
    law = law_of(cost, cells.cell_bytes, cells.all_cells)
    sizes = np.maximum(cells.bytes_of(np.arange(cells.all_cells + 1)), 1.0)
    bins = np.floor(PER_OCTAVE * np.log2(sizes)).astype(np.int32)
    counts, read_cells = np.empty(len(missed), np.int64), np.empty(len(missed), np.int64)
    seconds = np.empty(len(missed))
    by_bin, cells_by_bin = np.zeros(bins[-1] + 1, np.int64), np.zeros(bins[-1] + 1, np.int64)
    of_law = (law.near, law.latency, law.slope, law.least, law.most)
    totals = (counts, read_cells, seconds, by_bin, cells_by_bin)
    kernels.planned_reads(pack(missed), cells.low, cells.high, 0, *of_law, bins, *totals)
    rows = [
        [int(name), int(by_bin[name]), float(cells_by_bin[name] * cells.cell_bytes)]
        for name in np.flatnonzero(by_bin)
    ]
    return (counts, cells.bytes_of(read_cells), seconds), rows


def octaves(rows: Rows) -> dict[int, int]:
    """Reads by the largest power of two that is at most their bytes."""
    by_power: dict[int, int] = {}
    for name, reads, _ in rows:
        power = 2 ** (name // PER_OCTAVE)
        by_power[power] = by_power.get(power, 0) + reads
    return by_power


def merged(parts: Iterable[Rows]) -> list[list[Any]]:
    """Classes of all parts together, as plain lists."""
    by_class: dict[int, list[Any]] = {}
    for name, reads, size in (row for part in parts for row in part):
        together = by_class.setdefault(int(name), [int(name), 0, 0.0])
        together[1] += int(reads)
        together[2] += float(size)
    return [by_class[name] for name in sorted(by_class)]


def seconds_of(rows: Rows, cost: ReadCost) -> float:
    """Seconds of all reads of these classes, each as large as the mean of its class."""
    table: Seconds = np.array(rows, np.float64).reshape(-1, 3)
    reads: Seconds = table[:, 1]
    mean: Seconds = table[:, 2] / reads
    return float((reads * cost(mean)).sum())


def at_cost(
    reads: NDArray[np.int64],
    read_bytes: Seconds,
    seconds: Seconds,
    rows: Rows,
    planned: ReadCost,
    cost: ReadCost,
) -> Seconds:
    """Seconds of each pair at another cost than the one that its reads were planned with.

    The sum is `seconds`, times what the classes take at the other cost over what they take at the
    first. Three figures of each pair are known; the combination of them that comes nearest to the
    other cost over the classes says how the sum is shared.
    """
    if not len(rows):
        return seconds.copy()
    total = float(seconds.sum()) * seconds_of(rows, cost) / seconds_of(rows, planned)
    table: Seconds = np.array(rows, np.float64)
    counts: Seconds = table[:, 1]
    mean: Seconds = table[:, 2] / counts
    known: Seconds = np.stack([np.ones_like(mean), mean, planned(mean)])
    scale = known.max(axis=1)
    known /= scale[:, None]
    weighted: Seconds = known * counts
    products: Seconds = weighted @ known.T
    products += np.eye(3) * (_RIDGE * float(products.trace()))
    target: Seconds = weighted @ cost(mean)
    solved: Seconds = np.asarray(np.linalg.solve(products, target), np.float64)
    each, per_byte, per_second = (solved / scale).tolist()
    shared = np.maximum(reads * each + read_bytes * per_byte + seconds * per_second, 0.0)
    whole = float(shared.sum())
    return shared * (total / whole) if whole else seconds * (total / float(seconds.sum()))
