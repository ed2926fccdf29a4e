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
_SURELY = 1 - 1e-12  # starts of equal costs stay, in spite of rounding
_NEVER = 1e60  # seconds
_MOST_SIZES = 8192  # of a table that are all compared with each other
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
def increments(
    near: Seconds, latency: float, slope: float, all_cells: Int, least: Seconds, most: Seconds
) -> None:
    """Write what n cells more cost any read, at least and at most, n below `near.size`.

    Of a table of very many cells, n times what one more costs.
    """
    if near.size > _MOST_SIZES:
        low, high = slope, slope
        for cells in range(2, near.size):
            one = near[cells] - near[cells - 1]
            low, high = min(low, one), max(high, one)
        for more in range(1, near.size):
            least[more], most[more] = low * more * _SURELY, high * more / _SURELY
        return
    for more in range(1, near.size):
        low, high = np.inf, -np.inf
        for cells in range(1, min(near.size, all_cells - more + 1)):
            longer = cells + more
            seconds = near[longer] if longer < near.size else latency + slope * longer
            low, high = min(low, seconds - near[cells]), max(high, seconds - near[cells])
        if all_cells - more >= near.size:
            low, high = min(low, slope * more), max(high, slope * more)
        least[more] = low if high >= low else 0.0
        most[more] = high if high >= low else _NEVER


@njit(cache=True, nogil=True)
def add_start(
    run: Int,
    count: Int,
    kept: Places,
    places: Places,
    low: Cells,
    best: Seconds,
    least: Seconds,
    most: Seconds,
) -> tuple[Int, bool]:
    """Drop the last of the starts `kept` as long as reads from `run` are always cheaper; returns
    how many are left, and whether `run` is to follow: not if reads from the last of them always
    are cheaper than reads from `run`."""
    here = low[places[2 * run]]
    while count > 0:
        before = kept[count - 1]
        further = here - low[places[2 * before]]
        if further >= least.size:
            break
        if best[before] + most[further] < best[run] * _SURELY:
            return count, False
        if best[run] >= (best[before] + least[further]) * _SURELY:
            break
        count -= 1
    return count, True


@njit(cache=True, nogil=True)
def table_plan(
    runs: Int,
    places: Places,
    low: Cells,
    high: Cells,
    near: Seconds,
    latency: float,
    slope: float,
    least: Seconds,
    most: Seconds,
    best: Seconds,
    came: Places,
    kept: Places,
    plan: Cells,
) -> Int:
    """As `affine_plan`, with the least total cost by a table of costs.

    `best[j]` are the least seconds for the first j runs, whose last read begins at run `came[j]`.
    Reads longer than the table are affine, so the cheapest of them is a running least. Of plans of
    equal cost the one whose last read is shorter is taken.
    """
    best[0], first_near, far, far_run = 0.0, np.int64(0), np.inf, np.int64(0)
    longest, count = np.int64(near.size - 1), np.int64(0)
    for run in range(runs):
        end = high[places[2 * run + 1]]
        count, follows = add_start(run, count, kept, places, low, best, least, most)
        first_near = min(first_near, count)
        if follows:
            kept[count] = run
            count += 1
        while first_near < count and end - low[places[2 * kept[first_near]]] > longest:
            start = np.int64(kept[first_near])
            key = best[start] - slope * low[places[2 * start]]
            if key <= far:
                far, far_run = key, start
            first_near += 1
        cheapest, begin = np.inf, far_run
        for index in range(count - 1, first_near - 1, -1):
            start = np.int64(kept[index])
            seconds = best[start] + near[end - low[places[2 * start]]]
            if seconds < cheapest:
                cheapest, begin = seconds, start
        seconds = far + (latency + slope * end)
        if seconds < cheapest:
            cheapest, begin = seconds, far_run
        best[run + 1], came[run + 1] = cheapest, np.int32(begin)
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
    most_gap: Int,
    near: Seconds,
    latency: float,
    slope: float,
    least: Seconds,
    most: Seconds,
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
    places, came, kept = (
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
    )
    plan, best = np.empty(room, np.int64), np.empty(room, np.float64)
    missed = np.int64(0)
    for token in range(words.shape[0]):
        missed += count_bits(words[token])
        runs = toggles(words[token], places)
        if near.size == 0:
            count = affine_plan(runs, places, low, high, most_gap, plan)
        else:
            count = table_plan(
                runs,
                places,
                low,
                high,
                near,
                latency,
                slope,
                least,
                most,
                best,
                came,
                kept,
                plan,
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
