"""From a matrix of scores to mask bits in one pass: top-k, and Algorithm 1 of the paper."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, gather
from simulator.kernels.choose import MEMORY, Bytes, Keys, drop_last, find_bar, new_memory
from simulator.kernels.recency import Counts, Order, advance
from simulator.kernels.replace import Words, admit
from simulator.kernels.scans import contents

Floats = NDArray[np.float32]
INFINITE = np.int32(0x7F800000)  # bits of float32 infinity; as int32, finite magnitudes are below
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LOWEST = np.int64(-0x80000000)
_MEAN = 2 * MEMORY
LRU, LFU = 0, 1
NOTHING, VALUES, ONES = 0, 1, 2


@njit(cache=True, nogil=True)
def magnitude_keys(row: Floats, keys: Keys) -> tuple[Int, Int]:
    """Keys that compare as abs(value): the bits of a float32 without its sign.

    Returned are the largest key and the sum of all, of their upper halves (as for the others).
    """
    top, total = np.int32(0), np.int32(0)
    for i in range(row.size):
        key = np.int32(np.float32(row[i]).view(np.int32) & _MAGNITUDE)
        keys[i] = key
        top = key if key > top else top
        total = np.int32(total + np.int32(key >> np.int32(16)))
    return top, total


@njit(cache=True, nogil=True)
def signed_keys(row: Floats, keys: Keys) -> tuple[Int, Int]:
    """Keys that compare as the values do, -0 as 0; the first result is the largest magnitude."""
    top, total = np.int32(0), np.int32(0)
    for i in range(row.size):
        pattern = np.float32(row[i]).view(np.int32)
        size, sign = np.int32(pattern & _MAGNITUDE), np.int32(pattern >> np.int32(31))
        key = np.int32((size ^ sign) - sign)
        keys[i] = key
        top = size if size > top else top
        total = np.int32(total + np.int32(key >> np.int32(16)))
    return top, total


@njit(cache=True, nogil=True)
def weighed_keys(
    row: Floats, cached: Bytes, gamma: float | np.floating, keys: Keys
) -> tuple[Int, Int]:
    """Keys of eq. 10 without its denominator: abs(x), times gamma if the unit is not cached."""
    top, total = np.int32(0), np.int32(0)
    for i in range(row.size):
        size = np.float32(abs(row[i]))
        penalised = np.float32(gamma * size)
        key = np.float32(size if cached[i] != 0 else penalised).view(np.int32)
        keys[i] = key
        top = key if key > top else top
        total = np.int32(total + np.int32(key >> np.int32(16)))
    return top, total


@njit(cache=True, nogil=True)
def choose(
    keys: Keys,
    k: Int,
    low: Int,
    top: Int,
    total: Int,
    chosen: Bytes,
    memory: NDArray[np.float64],
) -> None:
    """Set `chosen` (bytes 0 or 1) for the k largest keys, ties to the lower index.

    The search begins at the bar of the last token, moved by the change of the mean key.
    """
    mean = np.float64(total) / keys.size * 65536.0
    memory_of_search = memory[MEMORY:_MEAN]
    guess = np.int64(memory_of_search[0] + mean - memory[_MEAN])
    bar, surplus = find_bar(
        keys, k, low, np.int64(keys.size), np.int64(top) + 1, guess, memory_of_search
    )
    memory[_MEAN] = mean
    least = np.int32(bar)
    for i in range(keys.size):
        chosen[i] = np.uint8(keys[i] >= least)
    drop_last(chosen, keys, least, surplus)


@njit(cache=True, nogil=True)
def keep(chosen: Bytes, row: Floats, target: Floats, write: Int) -> None:
    """Write what is chosen of a row, or ones for it, and zeros for the rest."""
    if write == VALUES:
        for i in range(row.size):
            value = row[i]
            target[i] = value if chosen[i] != 0 else np.float32(0)
    elif write == ONES:
        for i in range(row.size):
            target[i] = np.float32(chosen[i])


@njit(cache=True, nogil=True)
def top_k_scan(
    values: Floats, magnitude: bool, k: Int, packed: Words, target: Floats, write: Int
) -> Int:
    """Mask bits of each token; returns the first token with a value that is not finite, or -1."""
    units = values.shape[1]
    keys, chosen = np.empty(units, np.int32), np.zeros(packed.shape[1] * 64, np.uint8)
    row, octets, memory = chosen.view(np.uint64), packed.view(np.uint8), new_memory()
    low = np.int64(0) if magnitude else _LOWEST
    for token in range(values.shape[0]):
        if magnitude:
            top, total = magnitude_keys(values[token], keys)
        else:
            top, total = signed_keys(values[token], keys)
        if top >= INFINITE:
            return token
        choose(keys, k, low, top, total, chosen, memory)
        gather(row, octets[token])
        if write != NOTHING:
            keep(chosen, values[token], target[token], write)
    return -1


@njit(cache=True, nogil=True)
def cache_aware_scan(
    values: Floats,
    k: Int,
    gamma: float | np.floating,
    policy: Int,
    capacity: Int,
    cached: Bytes,
    uses: Keys,
    order: Order,
    counters: Counts,
    memory: NDArray[np.float64],
    packed: Words,
    hits: Counts,
    target: Floats,
    write: Int,
) -> Int:
    """Algorithm 1, token by token, for one session; the state of its cache is updated in place.

    `counters` are the units seen and the tokens so far. Returns as `top_k_scan`.
    """
    units = values.shape[1]
    used, keys = np.zeros(cached.size, np.uint8), np.empty(cached.size, np.int32)
    row, octets, spare = used.view(np.uint64), packed.view(np.uint8), np.empty_like(order)
    content = contents(cached)
    cached_row, content_octets = cached.view(np.uint64), content.view(np.uint8)
    for token in range(values.shape[0]):
        top, total = weighed_keys(values[token], cached, gamma, keys[:units])
        if top >= INFINITE:
            return token
        choose(keys[:units], k, np.int64(0), top, total, used, memory)
        gather(row, octets[token])
        if write != NOTHING:
            keep(used, values[token], target[token], write)
        if policy == LFU:
            for i in range(used.size):
                uses[i] += used[i]
            hits[token] = admit(
                used,
                packed[token],
                cached,
                content,
                uses,
                counters[1] + 2,
                capacity,
                keys,
                memory,
            )
            gather(cached_row, content_octets)
        else:
            hits[token], counters[0] = advance(order, spare, used, counters[0], capacity, k)
            order, spare = spare, order
            mark(cached, order[: min(capacity, counters[0])])
        counters[1] += 1
    if policy == LRU and values.shape[0] % 2:
        spare[:] = order
    return -1


@njit(cache=True, nogil=True)
def mark(cached: Bytes, content: Order) -> None:
    """Set the bytes of the units in `content`, and no others."""
    for i in range(cached.size):
        cached[i] = 0
    for index in range(content.size):
        cached[content[index]] = 1
