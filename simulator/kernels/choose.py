"""The k largest of a row of int32 keys: a bar found by counting, never by sorting.

One pass over the keys counts those at or above two bars, many keys per instruction. The bars start
on both sides of where the last token's was and close in by interpolation until exactly k keys reach
one of them, or until they stand on a tie; a token costs some three passes. Where the search starts
changes its length, never its result.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int

Keys = NDArray[np.int32]
Bytes = NDArray[np.uint8]

MEMORY = 3  # what a search remembers: its last bar, the distance of two keys there, its error
_BLOCK = 256
_PATIENCE = 6  # passes after which interpolation is no longer trusted alone


@njit(cache=True, nogil=True)
def new_memory() -> NDArray[np.float64]:
    """Where the next searches begin: a cache's, then the scores', then the scores' mean key."""
    return np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])


@njit(cache=True, nogil=True)
def reaching(keys: Keys, lower: Int, upper: Int) -> tuple[Int, Int]:
    """How many keys are at least `lower`, and at least `upper`; both int32."""
    some, fewer = np.int32(0), np.int32(0)
    for i in range(keys.size):
        key = keys[i]
        some = np.int32(some + np.int32(key >= lower))
        fewer = np.int32(fewer + np.int32(key >= upper))
    return np.int64(some), np.int64(fewer)


@njit(cache=True, nogil=True)
def find_bar(
    keys: Keys,
    k: Int,
    low: Int,
    reach_low: Int,
    high: Int,
    guess: Int,
    memory: NDArray[np.float64],
) -> tuple[Int, Int]:
    """The bar of the k largest keys, and by how many more keys it is reached than by k.

    This surplus is of keys equal to the bar. At least k keys, namely `reach_low`, must reach `low`,
    and none `high`. `memory` (`[3]`) is updated.
    """
    if reach_low == k:
        return low, np.int64(0)
    reach_high, above_low, below_high = np.int64(0), False, False
    slope, stride, passes = memory[1], 1.0, 0
    lower: Int
    slope: float
    lower, upper = guess - np.int64(memory[2]), guess + np.int64(memory[2]) + 1
    while high - low > 1:
        lower = min(max(lower, low + 1), high - 1)
        upper = min(max(upper, lower), high - 1)
        some, fewer = reaching(keys, np.int32(lower), np.int32(upper))
        passes += 1
        if some == k or fewer == k:
            low, reach_low = (lower if some == k else upper), k
            break
        if fewer > k:
            low, reach_low, above_low = upper, fewer, True
        elif some > k:
            low, reach_low, above_low = lower, some, True
            high, reach_high, below_high = upper, fewer, True
        else:
            high, reach_high, below_high = lower, some, True
        if above_low and below_high:
            if passes == _PATIENCE:
                low, high = tighten(keys, low, high)
            slope = (high - low) / (reach_low - reach_high)
            lower, upper = _between(low, reach_low, high, reach_high, k, passes)
        else:
            far = reach_low - k if above_low else k - reach_high
            step = np.int64(far * slope * stride)
            stride *= 3.0
            lower = low + step // 2 + 1 if above_low else high - 2 * step - 2
            upper = low + 2 * step + 2 if above_low else high - step // 2 - 1
    memory[0], memory[1] = low, slope
    memory[2] = 0.75 * memory[2] + 0.25 * abs(low - guess)
    return low, reach_low - k


@njit(cache=True, nogil=True)
def _between(
    low: Int, reach_low: Int, high: Int, reach_high: Int, k: Int, passes: Int
) -> tuple[Int, Int]:
    """The next two bars inside (low, high): around the interpolated one, or at its thirds."""
    if passes > _PATIENCE and passes % 2 == 0:
        third = (high - low) // 3
        return low + third, high - third
    inside = reach_low - reach_high
    slope = (high - low) / inside
    middle = high - np.int64((k - reach_high) * slope)
    width = np.int64(0.25 * slope * math.sqrt(inside))
    return middle - width, middle + width + 1


@njit(cache=True, nogil=True)
def tighten(keys: Keys, low: Int, high: Int) -> tuple[Int, Int]:
    """Move both bounds onto keys that exist: a search among many equal keys ends at once."""
    bottom, top = np.int32(low), np.int32(high - 1)
    least, most = top, bottom
    for i in range(keys.size):
        key = keys[i]
        least = min(least, max(key, bottom) if key >= bottom else top)
        most = max(most, key if key <= top else bottom)
    return np.int64(least), np.int64(most) + 1


@njit(cache=True, nogil=True)
def drop_last(chosen: Bytes, keys: Keys, bar: Int, surplus: Int) -> None:
    """Unset the `surplus` last of the chosen units whose key is `bar` (at least that many are)."""
    if surplus == 0:
        return
    end = keys.size
    while surplus > 0:
        begin = max(0, end - _BLOCK)
        block = keys[begin:end]
        equal = np.int32(0)
        for i in range(block.size):
            equal = np.int32(equal + np.int32(block[i] == bar))
        if equal > surplus:
            begin += _place_of(block, bar, equal - surplus)
            equal = surplus
        surplus -= equal
        end = begin
    last, last_keys = chosen[end:], keys[end:]
    for i in range(last.size):
        stays = last[i]
        last[i] = np.uint8(0) if last_keys[i] == bar else stays


@njit(cache=True, nogil=True)
def _place_of(keys: Keys, bar: Int, count: Int) -> Int:
    """The place after the first `count` keys equal to `bar`."""
    index = 0
    while count > 0:
        count -= np.int64(keys[index] == bar)
        index += 1
    return index
