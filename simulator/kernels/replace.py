"""What a cache holds after a token, for the policies that rank units by a key."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, common, count_bits, gather
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
    """Update the cache content after a token and return the token's hits.

    `used` and `cached` are bytes 0 or 1 `[units]`, given as bits too. Used units that were cached
    stay; missing used ones, then unused cached ones, fill what is left, those of most `worth` (at
    least 0, below `top`) first, ties to the lower unit. `keys` is room for `[units]`.
    """
    hits, requests = common(used_words, cached_words), count_bits(used_words)
    filled = count_bits(cached_words)
    crowded = requests >= capacity  # room is left for missing units only, and not for all of them
    if filled + requests - hits <= capacity:
        for i in range(used.size):
            cached[i] |= used[i]
    elif crowded and hits == capacity:
        return hits  # the whole content was used: it stays
    elif crowded:
        rivals = requests - hits
        for i in range(used.size):
            keys[i] = worth[i] if used[i] > cached[i] else np.int32(-1)
        for i in range(used.size):
            used[i] &= cached[i]
        _fill(used, cached, keys, capacity - hits, rivals, top, memory)
    else:
        rivals = filled - hits
        for i in range(used.size):
            keys[i] = worth[i] if cached[i] > used[i] else np.int32(-1)
        _fill(used, cached, keys, capacity - requests, rivals, top, memory)
    gather(cached.view(np.uint64), cached_words.view(np.uint8))
    return hits


@njit(cache=True, nogil=True)
def _fill(
    kept: Bytes,
    cached: Bytes,
    keys: Keys,
    room: Int,
    rivals: Int,
    top: Int,
    memory: NDArray[np.float64],
) -> None:
    """Set `cached` to the units kept and the `room` best of the `rivals`, whose keys are >= 0."""
    if room == 0:
        for i in range(kept.size):
            cached[i] = kept[i]
        return
    bar, surplus = find_bar(keys, room, np.int64(0), rivals, top, np.int64(memory[0]), memory)
    least = np.int32(bar)
    for i in range(keys.size):
        cached[i] = np.uint8(keys[i] >= least) | kept[i]
    if surplus > 0:
        drop_last(cached, keys, least, surplus)
