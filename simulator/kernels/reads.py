"""From missed bits to reads: runs of neighbours, and which gaps between them are read as well.

A read of runs `i` to `j` takes the cells from `low[first unit of i]` to `high[end of j]` (see
`simulator.read_cells`). Under the affine law each gap is decided by itself; under a table the
cheapest plan is found run by run.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, count_bits, popcount
from simulator.kernels.replace import Words

Cells = NDArray[np.int64]
Places = NDArray[np.int32]
Seconds = NDArray[np.float64]
_ROUNDED = 1 + 1e-12  # equal costs are compared, not cut off, in spite of rounding
_FAR = np.int64(1) << np.int64(40)  # farther from the first unit than any gap is long


@njit(cache=True, nogil=True)
def toggles(row: Words, places: Places) -> Int:
    """Write where runs of set bits begin and end, in turn; returns how many runs there are.

    `places` has room for two more than the bits of the row.
    """
    count, carry = np.int64(0), np.uint64(0)
    one = np.uint64(1)
    for column in range(row.size):
        word = row[column]
        turns = word ^ ((word << one) | carry)
        carry = word >> np.uint64(63)
        base = np.int64(column) * 64
        while turns != 0:
            lowest = turns & (~turns + one)
            places[count] = np.int32(base + np.int64(popcount(lowest - one)))
            count += 1
            turns ^= lowest
    if carry:
        places[count] = np.int32(row.size * 64)
        count += 1
    return count // 2


@njit(cache=True, nogil=True)
def affine_reads(
    words: Words, low: Cells, high: Cells, most: Int, counts: Cells, cells: Cells
) -> None:
    """Reads and cells read of each token, where gaps of up to `most` cells are read as well."""
    places = np.empty(words.shape[1] * 64 + 2, np.int32)
    for token in range(words.shape[0]):
        runs = toggles(words[token], places)
        end, count, skipped = -_FAR, np.int64(0), np.int64(0)
        for run in range(runs):
            gap = low[places[2 * run]] - end
            end = high[places[2 * run + 1]]
            apart = np.int64(gap > most)
            count += apart
            skipped += gap * apart
        counts[token] = count
        cells[token] = end + _FAR - skipped


@njit(cache=True, nogil=True)
def affine_plan(runs: Int, places: Places, low: Cells, high: Cells, most: Int, plan: Cells) -> Int:
    """Write the cells of each read of a token into `plan`; returns how many reads there are."""
    count, begin, end = np.int64(0), np.int64(0), -_FAR
    for run in range(runs):
        here = low[places[2 * run]]
        if here - end > most:
            if count > 0:
                plan[count - 1] = end - begin
            begin = here
            count += 1
        end = high[places[2 * run + 1]]
    if count > 0:
        plan[count - 1] = end - begin
    return count


@njit(cache=True, nogil=True)
def table_plan(
    runs: Int,
    places: Places,
    low: Cells,
    high: Cells,
    near: Seconds,
    latency: float,
    slope: float,
    least_slope: float,
    best: Seconds,
    came: Places,
    plan: Cells,
) -> Int:
    """As `affine_plan`, with the least total cost by a table of costs.

    `best[j]` are the least seconds for the first j runs, whose last read begins at run `came[j]`.
    Reads longer than the table are affine, so the cheapest of them is a running least. The search
    for the first run of the last read ends early: what the runs before `index` take in one read is
    at least `best[index]` less their own cost, so a read from one of them takes at least
    `best[index]` and the least seconds of the cells after them. Of plans of equal cost the one
    whose last read is shorter is taken.
    """
    best[0], first_near, far, far_run = 0.0, np.int64(0), np.inf, np.int64(0)
    longest = np.int64(near.size - 1)
    for run in range(runs):
        end = high[places[2 * run + 1]]
        while first_near <= run and end - low[places[2 * first_near]] > longest:
            key = best[first_near] - slope * low[places[2 * first_near]]
            if key <= far:
                far, far_run = key, first_near
            first_near += 1
        least, begin, index = np.inf, far_run, np.int64(run)
        while index >= first_near:
            seconds = best[index] + near[end - low[places[2 * index]]]
            if seconds < least:
                least, begin = seconds, index
            if index > 0:
                more = end - high[places[2 * index - 1]]
                if best[index] + least_slope * more > least * _ROUNDED:
                    break
            index -= 1
        if index < first_near:
            seconds = far + (latency + slope * end)
            if seconds < least:
                least, begin = seconds, far_run
        best[run + 1], came[run + 1] = least, np.int32(begin)
    return walk_back(runs, places, low, high, came, plan)


@njit(cache=True, nogil=True)
def walk_back(runs: Int, places: Places, low: Cells, high: Cells, came: Places, plan: Cells) -> Int:
    """Write the cells of the reads of a plan that is known by where its last reads begin."""
    count, after = np.int64(0), np.int64(runs)
    while after > 0:
        begin = np.int64(came[after])
        plan[count] = high[places[2 * after - 1]] - low[places[2 * begin]]
        count += 1
        after = begin
    return count


@njit(cache=True, nogil=True)
def planned_reads(
    words: Words,
    low: Cells,
    high: Cells,
    most: Int,
    near: Seconds,
    latency: float,
    slope: float,
    least_slope: float,
    bins: Places,
    counts: Cells,
    cells: Cells,
    seconds: Seconds,
    reads_by_bin: Cells,
    cells_by_bin: Cells,
) -> Int:
    """Reads, cells and seconds of each token, and both totals by `bins[cells of a read]`.

    With an empty `near` the law is affine. Returns the missed units of all tokens.
    """
    room = words.shape[1] * 64 + 2
    places, came = np.empty(room, np.int32), np.empty(room, np.int32)
    plan, best = np.empty(room, np.int64), np.empty(room, np.float64)
    missed = np.int64(0)
    for token in range(words.shape[0]):
        missed += count_bits(words[token])
        runs = toggles(words[token], places)
        if near.size == 0:
            count = affine_plan(runs, places, low, high, most, plan)
        else:
            count = table_plan(
                runs, places, low, high, near, latency, slope, least_slope, best, came, plan
            )
        total, time = np.int64(0), 0.0
        for index in range(count):
            size = plan[index]
            total += size
            time += near[size] if size < near.size else latency + slope * size
            reads_by_bin[bins[size]] += 1
            cells_by_bin[bins[size]] += size
        counts[token], cells[token], seconds[token] = count, total, time
    return missed


@njit(cache=True, nogil=True)
def gap_lengths(words: Words, counts: Cells) -> None:
    """Add to `counts[n]` the gaps of n units between two runs, to `counts[0]` tokens with a run."""
    places = np.empty(words.shape[1] * 64 + 2, np.int32)
    for token in range(words.shape[0]):
        runs = toggles(words[token], places)
        counts[0] += np.int64(runs > 0)
        for run in range(1, runs):
            counts[places[2 * run] - places[2 * run - 1]] += 1
