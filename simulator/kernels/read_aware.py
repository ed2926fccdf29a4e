"""The best mask at a price of reads, token by token (SEMANTICS 9).

A token's reads are spans of its units, apart from each other; within one every unit that is worth
something is used, outside those of them that are resident. So the best mask is the best set of
spans: each is worth the sum of its units that are not resident, less its price.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, gather
from simulator.kernels.choose import Bytes, Keys
from simulator.kernels.recency import Counts, Order, advance
from simulator.kernels.replace import Words, admit
from simulator.kernels.scans import contents
from simulator.kernels.select import LFU, LRU, mark

Floats = NDArray[np.float32]
Worths = NDArray[np.float64]
Cells = NDArray[np.int64]
Places = NDArray[np.int32]


@njit(cache=True, nogil=True)
def shares(row: Floats, worth: Worths) -> bool:
    """Write the magnitudes of a row over its largest; False where one is not finite."""
    top, finite = 0.0, True
    for i in range(row.size):
        size = np.float64(abs(row[i]))
        worth[i] = size
        top = size if size > top else top
        if not size < np.inf:
            finite = False
    if finite and top > 0:
        for i in range(row.size):
            worth[i] /= top
    return finite


@njit(cache=True, nogil=True)
def choose_affine(
    worth: Worths, resident: Bytes, opening: Worths, step: Worths, steps: Bytes, inside: Bytes
) -> None:
    """Set `inside` for the units of the spans, where a span costs `opening` of its first unit and
    `step` of each other one.

    Two states suffice: the last unit is in a span, or not. Of equal values the one with fewer units
    in spans is taken, decided from the last unit on. `steps` is room for where a state came from.
    """
    out, within = 0.0, -np.inf
    for i in range(worth.size):
        going_on, beginning = within - step[i], out - opening[i]
        continued, ended = going_on > beginning, within > out
        steps[i] = np.uint8(continued) | (np.uint8(ended) << np.uint8(1))
        out = within if ended else out
        gain = worth[i] if resident[i] == 0 else 0.0
        within = (going_on if continued else beginning) + gain
    state = np.uint8(within > out)
    for i in range(worth.size - 1, -1, -1):
        inside[i] = state
        state = steps[i] & np.uint8(1) if state else steps[i] >> np.uint8(1)


@njit(cache=True, nogil=True)
def choose_by_table(
    worth: Worths,
    resident: Bytes,
    low: Cells,
    high: Cells,
    near: Worths,
    latency: float,
    slope: float,
    starts: Places,
    begins: Places,
    keys: Worths,
    ended: Bytes,
    inside: Bytes,
) -> None:
    """As `choose_affine`, where a span from i to before j costs `near[high[j] - low[i]]`, and one
    that is longer than this table `latency + slope * cells`.

    Spans begin and end at units that gain something; `starts` are those units, and their `keys` the
    best value before them less the gains before them. `begins[j]` is where the best span that ends
    before j begins, and `ended[j]` says whether the best value without unit `j - 1` has one ending
    before that unit. Of equal values the shorter last span is taken, and none rather than one.
    """
    longest, total, count, first_near = near.size - 1, 0.0, np.int64(0), np.int64(0)
    out, ending, far, far_start = 0.0, -np.inf, -np.inf, np.int32(0)
    for i in range(worth.size):
        value = -np.inf
        if worth[i] > 0 and resident[i] == 0:
            starts[count], keys[count] = i, out - total
            count += 1
            total += worth[i]
            end = high[i + 1]
            while first_near < count and end - low[starts[first_near]] > longest:
                key = keys[first_near] + slope * low[starts[first_near]]
                if key >= far:
                    far, far_start = key, starts[first_near]
                first_near += 1
            best, begin = nearest(first_near, count, starts, keys, low, near, end)
            key = far - (latency + slope * end)
            if key > best:
                best, begin = key, far_start
            value, begins[i + 1] = best + total, begin
        ended[i + 1] = np.uint8(ending > out)
        out = ending if ending > out else out
        ending = value
    fill(begins, ended, ending > out, inside)


@njit(cache=True, nogil=True)
def nearest(
    first: Int, count: Int, starts: Places, keys: Worths, low: Cells, near: Worths, end: Int
) -> tuple[float, np.int32]:
    """The best key of the starts from `first` on, less the price of a span up to `end`."""
    best, begin = -np.inf, np.int32(0)
    for index in range(count - 1, first - 1, -1):
        key = keys[index] - near[end - low[starts[index]]]
        if key > best:
            best, begin = key, starts[index]
    return best, begin


@njit(cache=True, nogil=True)
def fill(begins: Places, ended: Bytes, within: bool, inside: Bytes) -> None:
    """Set `inside` for the units of the spans, found from the last unit on."""
    for i in range(inside.size):
        inside[i] = 0
    after = np.int64(inside.size)
    while after > 0:
        if within:
            begin = np.int64(begins[after])
            for i in range(begin, after):
                inside[i] = 1
            after, within = begin, False
        else:
            within = ended[after] != 0
            after -= 1


@njit(cache=True, nogil=True)
def use(worth: Worths, resident: Bytes, inside: Bytes, used: Bytes) -> tuple[Int, Int]:
    """Set `used` for what is resident or in a span and has a score; returns its units and hits."""
    requests, hits = np.int64(0), np.int64(0)
    for i in range(worth.size):
        chosen = (inside[i] | resident[i]) & np.uint8(worth[i] > 0)
        used[i] = chosen
        requests += np.int64(chosen)
        hits += np.int64(chosen & resident[i])
    return requests, hits


@njit(cache=True, nogil=True)
def read_aware_scan(
    values: Floats,
    low: Cells,
    high: Cells,
    opening: Worths,
    step: Worths,
    near: Worths,
    latency: float,
    slope: float,
    policy: Int,
    residents: Bytes,
    capacity: Int,
    cached: Bytes,
    uses: Keys,
    order: Order,
    counters: Counts,
    memory: NDArray[np.float64],
    packed: Words,
    hits: Counts,
) -> Int:
    """Masks of the tokens, as bits, and their hits; returns the first token with a value that is
    not finite, or -1.

    All prices are times the price of a second; an empty `near` is the affine law. With `lru` and
    `lfu` the cache of `cached` to `memory` goes from token to token, as in
    `select.cache_aware_scan`; with no policy (-1) `residents` are those of the token, in one row
    for each or one for all.
    """
    units, width = values.shape[1], packed.shape[1] * 64
    used, inside, keys = (
        np.zeros(width, np.uint8),
        np.zeros(units, np.uint8),
        np.empty(width, np.int32),
    )
    worth, best = np.empty(units), np.empty(units)
    starts, begins, steps = (
        np.empty(units, np.int32),
        np.empty(units + 1, np.int32),
        np.empty(units + 1, np.uint8),
    )
    row, octets, spare = used.view(np.uint64), packed.view(np.uint8), np.empty_like(order)
    content, caches = contents(cached), policy >= 0
    for token in range(values.shape[0]):
        resident = cached[:units] if caches else residents[min(token, residents.shape[0] - 1)]
        if not shares(values[token], worth):
            return token
        if near.size == 0:
            choose_affine(worth, resident, opening, step, steps, inside)
        else:
            choose_by_table(
                worth,
                resident,
                low,
                high,
                near,
                latency,
                slope,
                starts,
                begins,
                best,
                steps,
                inside,
            )
        requests, hits[token] = use(worth, resident, inside, used)
        gather(row, octets[token])
        if policy == LFU:
            for i in range(width):
                uses[i] += used[i]
            top = counters[1] + 2
            admit(used, packed[token], cached, content, uses, top, capacity, keys, memory)
            gather(cached.view(np.uint64), content.view(np.uint8))
        elif policy == LRU:
            _, counters[0] = advance(order, spare, used, counters[0], capacity, requests)
            order, spare = spare, order
            mark(cached, order[: min(capacity, counters[0])])
        counters[1] += 1
    if policy == LRU and values.shape[0] % 2:
        spare[:] = order
    return -1
