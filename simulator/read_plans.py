"""The reads that misses cause (SEMANTICS 9): how many, how large, and how long they take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError
from simulator.kernels import reads as kernels
from simulator.packing import check_packed, pack
from simulator.read_cells import Cells, cells_of, law_of, most_gap
from simulator.read_cost import ReadCost
from simulator.read_sizes import ReadCounts, class_of, histogram_of

Masks = NDArray[Any]  # bool [tokens, units], or uint64 [tokens, words]
Totals = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def reads(
    missed: Masks,
    unit_bytes: float,
    cost: ReadCost,
    align_bytes: int = 1,
    *,
    units: int | None = None,
) -> Totals:
    """Reads int64, bytes and seconds float64 of each token, `[tokens]` each.

    `missed` are bool `[tokens, units]` in the order of the layout, or packed if `units` is given;
    each unit has `unit_bytes`. A read is a run of missed neighbours. Two runs become one where
    reading the gap, which may hold any other units, is cheaper than another read; of all ways to
    bridge gaps the cheapest is taken, the one that reads less where the affine law says the same.
    A run is never parted, though by a table two halves may be cheaper.

    A read begins and ends at multiples of `align_bytes` (1: at units). Two reads that share an
    aligned block each read it. No latency and no alignment is the paper's model: the missed units'
    bytes over the throughput. Raises SimulatorError for sizes that are not above 0.
    """
    words, count = _words(missed, units)
    cells = cells_of(count, unit_bytes, align_bytes)
    if not cost.affine:
        return _planned(words, cells, cost)[0]
    counts, read_cells = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    most = most_gap(cost, cells.cell_bytes)
    kernels.affine_reads(words, cells.low, cells.high, most, counts, read_cells)
    return _by_law(counts, cells.bytes_of(read_cells), cost)


def read_counts(
    missed: Masks,
    unit_bytes: float,
    cost: ReadCost,
    align_bytes: int = 1,
    *,
    units: int | None = None,
) -> ReadCounts:
    """`reads` of all tokens together, with the sizes of the reads and the bytes not asked for."""
    words, count = _words(missed, units)
    cells = cells_of(count, unit_bytes, align_bytes)
    (counts, read_bytes, seconds), units_missed, sizes = _planned(words, cells, cost)
    return ReadCounts(
        tokens=len(words),
        reads=int(counts.sum()),
        read_bytes=float(read_bytes.sum()),
        missed_bytes=units_missed * float(unit_bytes),
        seconds=float(seconds.sum()),
        sizes=sizes,
    )


def reads_by_size(
    missed: Masks,
    unit_bytes: float,
    cost: ReadCost,
    align_bytes: int = 1,
    *,
    units: int | None = None,
) -> tuple[Totals, dict[int, int]]:
    """`reads` token by token, and how many of all of them are of so many bytes and more, by the
    powers of two; one pass for both."""
    words, count = _words(missed, units)
    totals, _, sizes = _planned(words, cells_of(count, unit_bytes, align_bytes), cost)
    return totals, histogram_of(sizes)


def gap_counts(missed: Masks, *, units: int | None = None) -> NDArray[np.int64]:
    """How many gaps of each length lie between two runs of a token, int64 `[units + 1]`.

    The number at 0 is that of tokens that miss anything. With it the reads of any affine law
    without alignment are known: gaps of up to g units read make `counts[g+1:].sum() + counts[0]`
    reads and `(counts * lengths)[1:g+1].sum()` units more.
    """
    words, count = _words(missed, units)
    counts = np.zeros(count + 1, np.int64)
    kernels.gap_lengths(words, counts)
    return counts


def _by_law(counts: NDArray[np.int64], read_bytes: NDArray[np.float64], cost: ReadCost) -> Totals:
    seconds = read_bytes / (cost.gbps * 1e9)
    if cost.latency_us:
        seconds += counts * (cost.latency_us * 1e-6)
    return counts, read_bytes, seconds


def _planned(
    words: NDArray[np.uint64], cells: Cells, cost: ReadCost
) -> tuple[Totals, int, tuple[tuple[int, int, float], ...]]:
    law = law_of(cost, cells.cell_bytes, cells.all_cells)
    most = most_gap(cost, cells.cell_bytes) if cost.affine else 0
    bins = class_of(cells.bytes_of(np.arange(cells.all_cells + 1)))
    counts, read_cells = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    seconds = np.empty(len(words))
    by_bin, cells_by_bin = np.zeros(bins[-1] + 1, np.int64), np.zeros(bins[-1] + 1, np.int64)
    missed = kernels.planned_reads(
        words,
        cells.low,
        cells.high,
        most,
        law.near,
        law.latency,
        law.slope,
        law.least,
        law.most,
        bins,
        counts,
        read_cells,
        seconds,
        by_bin,
        cells_by_bin,
    )
    read_bytes = cells.bytes_of(read_cells)
    totals: Totals = (counts, read_bytes, seconds)
    if cost.affine:
        totals = _by_law(counts, read_bytes, cost)
    sizes = tuple(
        (int(name), int(by_bin[name]), float(cells_by_bin[name] * cells.cell_bytes))
        for name in np.flatnonzero(by_bin)
    )
    return totals, int(missed), sizes


def _words(missed: Masks, units: int | None) -> tuple[NDArray[np.uint64], int]:
    missed = np.asarray(missed)
    if missed.ndim != 2:
        raise SimulatorError(f"missed has shape {missed.shape}; it must be [tokens, units]")
    if units is None:
        return pack(missed), missed.shape[1]
    return check_packed(missed, units), units
