"""What a cache holds after a token, for the policies that rank units by a key."""

from __future__ import annotations

import numpy as np
from numba import njit

from simulator.kernels.choose import drop_last, find_bar


@njit(cache=True, nogil=True)
def admit(used, cached, worth, capacity, keys, top, memory):  # noqa: ANN001, ANN201
    """Update `cached` after a token and return its hits.

    `used` and `cached` are bytes 0 or 1 `[units]`. Used units that were cached stay; missing used
    ones, then unused cached ones, fill what is left, those of most `worth` (int32 `[units]`, at
    least 0, below `top`) first, ties to the lower index. `keys` is room for `[units]` int32,
    `memory` float64 `[2]` keeps the last bar and slope.
    """
    units, hits, requests, filled = used.size, np.int32(0), np.int32(0), np.int32(0)
    for i in range(units):
        hits = np.int32(hits + np.int32(used[i] & cached[i]))
        requests = np.int32(requests + np.int32(used[i]))
        filled = np.int32(filled + np.int32(cached[i]))
    if filled + requests - hits <= capacity:
        for i in range(units):
            cached[i] |= used[i]
        return np.int64(hits)
    crowded = requests >= capacity  # then room is made for some of the missing units only
    room = np.int64(capacity) - (hits if crowded else requests)
    if room == 0:
        for i in range(units):
            cached[i] = cached[i] & used[i] if crowded else used[i]
        return np.int64(hits)
    wanted = np.uint8(1 if crowded else 0)
    for i in range(units):
        rival = (used[i] ^ cached[i]) & np.uint8(used[i] == wanted)
        keys[i] = worth[i] if rival else np.int32(-1)
    rivals = np.int64(requests - hits) if crowded else np.int64(filled - hits)
    bar, surplus, slope = find_bar(
        keys, room, np.int64(0), rivals, np.int64(top), np.int64(memory[0]), memory[1]
    )
    memory[0], memory[1] = bar, slope
    least = np.int32(bar)
    if crowded:
        for i in range(units):
            keep = used[i] & cached[i]
            cached[i] = np.uint8(keys[i] >= least)
            used[i] = keep
    else:
        for i in range(units):
            cached[i] = np.uint8(keys[i] >= least)
    if surplus > 0:
        drop_last(cached, keys, least, surplus)
    for i in range(units):
        cached[i] |= used[i]
    return np.int64(hits)
