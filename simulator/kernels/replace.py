"""What a cache holds after a token, for the policies that rank units by a key."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, common, count_bits
from simulator.kernels.choose import Bytes, Keys, drop_last, find_bar

Words = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def admit(
    used: Bytes,
    used_words: Words,
    cached: Bytes,
    cached_words: Words,
    worth: Keys,
    top: Int,
    capacity: Int,
    keys: Keys,
    memory: NDArray[np.float64],
) -> Int:
    """Update `cached` after a token and return the token's hits.

    `used` and `cached` are bytes 0 or 1 `[units]`, given as bits too; the bits of `cached` are left
    to the caller. Used units that were cached stay; missing used ones, then unused cached ones,
    fill what is left, those of most `worth` (at least 0, below `top`) first, ties to the lower
    unit. `keys` is room for `[units]`.
    """
    hits, requests = common(used_words, cached_words), count_bits(used_words)
    filled = count_bits(cached_words)
    if filled + requests - hits <= capacity:
        for i in range(used.size):
            cached[i] |= used[i]
    elif requests < capacity:
        for i in range(used.size):
            keys[i] = worth[i] if cached[i] > used[i] else np.int32(-1)
        bar, surplus = _bar(keys, capacity - requests, filled - hits, top, memory)
        for i in range(used.size):
            cached[i] = np.uint8(keys[i] >= bar) | used[i]
        drop_last(cached, keys, bar, surplus)
    elif hits < capacity:  # else the whole content was used, and stays
        for i in range(used.size):
            keys[i] = worth[i] if used[i] > cached[i] else np.int32(-1)
        bar, surplus = _bar(keys, capacity - hits, requests - hits, top, memory)
        for i in range(used.size):
            cached[i] = np.uint8(keys[i] >= bar) | (used[i] & cached[i])
        drop_last(cached, keys, bar, surplus)
    return hits


@njit(cache=True, nogil=True)
def _bar(
    keys: Keys, room: Int, rivals: Int, top: Int, memory: NDArray[np.float64]
) -> tuple[Int, Int]:
    bar, surplus = find_bar(keys, room, np.int64(0), rivals, top, np.int64(memory[0]), memory)
    return np.int32(bar), surplus
