"""From a matrix of scores to mask bits in one pass: top-k, and Algorithm 1 of the paper."""

from __future__ import annotations

import numpy as np
from numba import njit

from simulator.kernels.bits import gather
from simulator.kernels.choose import drop_last, find_bar
from simulator.kernels.recency import advance
from simulator.kernels.replace import admit

INFINITE = np.int32(0x7F800000)  # bits of float32 infinity; as int32, finite magnitudes are below
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LOWEST = np.int64(-0x80000000)
LRU, LFU = 0, 1


@njit(cache=True, nogil=True)
def magnitude_keys(row, keys):  # noqa: ANN001, ANN201
    """Keys that compare as abs(value): the bits of a float32 without its sign."""
    for i in range(row.size):
        keys[i] = row[i] & _MAGNITUDE


@njit(cache=True, nogil=True)
def signed_keys(row, keys):  # noqa: ANN001, ANN201
    """Keys that compare as the values do; -0 is 0, NaN and infinity become INFINITE."""
    for i in range(row.size):
        size, negative = row[i] & _MAGNITUDE, row[i] < 0
        key = np.int32(-size) if negative else size
        keys[i] = INFINITE if size >= INFINITE else key


@njit(cache=True, nogil=True)
def weighed_keys(row, cached, gamma, weighed):  # noqa: ANN001, ANN201
    """Eq. 10 without its denominator: abs(x), times gamma if the unit is not cached."""
    for i in range(row.size):
        size = abs(row[i])
        penalised = gamma * size
        weighed[i] = size if cached[i] != 0 else penalised


@njit(cache=True, nogil=True)
def extent(keys):  # noqa: ANN001, ANN201
    """The largest key and (roughly) the mean of all."""
    top, total = np.int32(_LOWEST), np.int32(0)
    for i in range(keys.size):
        top = max(top, keys[i])
        total = np.int32(total + np.int32(keys[i] >> np.int32(16)))
    return top, np.float64(total) / keys.size * 65536.0


@njit(cache=True, nogil=True)
def choose(keys, k, low, chosen, memory):  # noqa: ANN001, ANN201
    """Set `chosen` (bytes 0 or 1) for the k largest keys, ties to the lower index.

    Returns False if a key is INFINITE or above. The bar of the last token, moved by the change of
    the mean key, is where the search begins.
    """
    top, mean = extent(keys)
    if top >= INFINITE:
        return False
    guess = np.int64(memory[2] + mean - memory[4])
    bar, surplus, slope = find_bar(
        keys, k, low, np.int64(keys.size), np.int64(top) + 1, guess, memory[3]
    )
    if bar > low:
        memory[2], memory[3], memory[4] = bar, slope, mean
    least = np.int64(bar)
    for i in range(keys.size):
        chosen[i] = np.uint8(keys[i] >= least)
    if surplus > 0:
        drop_last(chosen, keys, least, surplus)
    return True


@njit(cache=True, nogil=True)
def keep(chosen, row):  # noqa: ANN001, ANN201
    """Set the values of a row that are not chosen to zero."""
    for i in range(row.size):
        value = row[i]
        row[i] = value if chosen[i] != 0 else np.float32(0)


@njit(cache=True, nogil=True)
def top_k_scan(values, magnitude, k, bits, target, apply):  # noqa: ANN001, ANN201
    """Mask bits of each token; returns the first token with a value that is not finite, or -1."""
    tokens, units = values.shape
    keys, chosen = np.empty(units, np.int32), np.zeros(bits.shape[1] * 8, np.uint8)
    row, memory = chosen.view(np.uint64), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    low = np.int64(0) if magnitude else _LOWEST
    for token in range(tokens):
        if magnitude:
            magnitude_keys(values[token], keys)
        else:
            signed_keys(values[token], keys)
        if not choose(keys, k, low, chosen, memory):
            return token
        gather(row, bits[token])
        if apply:
            keep(chosen, target[token])
    return -1


@njit(cache=True, nogil=True)
def cache_aware_scan(  # noqa: ANN201, PLR0913
    values,  # noqa: ANN001
    k,  # noqa: ANN001
    gamma,  # noqa: ANN001
    policy,  # noqa: ANN001
    capacity,  # noqa: ANN001
    cached,  # noqa: ANN001
    uses,  # noqa: ANN001
    order,  # noqa: ANN001
    counters,  # noqa: ANN001
    memory,  # noqa: ANN001
    bits,  # noqa: ANN001
    hits,  # noqa: ANN001
    target,  # noqa: ANN001
    apply,  # noqa: ANN001
):
    """Algorithm 1, token by token, for one session; the state of its cache is updated in place.

    `counters` are the units seen and the tokens so far. Returns as `top_k_scan`.
    """
    tokens, units = values.shape
    weighed, used = np.empty(units, np.float32), np.zeros(cached.size, np.uint8)
    keys, rivals = weighed.view(np.int32), np.empty(cached.size, np.int32)
    row, spare = used.view(np.uint64), np.empty_like(order)
    for token in range(tokens):
        weighed_keys(values[token], cached, gamma, weighed)
        if not choose(keys, k, np.int64(0), used[:units], memory):
            return token
        gather(row, bits[token])
        if apply:
            keep(used, target[token])
        if policy == LFU:
            for i in range(units):
                uses[i] += used[i]
            top = counters[1] + 2
            hits[token] = admit(used, cached, uses, capacity, rivals, top, memory)
        else:
            hits[token], counters[0] = advance(order, spare, used, counters[0], capacity, k)
            order[:] = spare
            cached[:] = 0
            for place in range(min(capacity, counters[0])):
                cached[order[place]] = 1
        counters[1] += 1
    return -1
