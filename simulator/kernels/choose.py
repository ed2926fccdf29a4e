"""The k largest of a row of int32 keys: a bar found by counting, never by sorting.

One pass over the keys counts those at or above a bar, at many keys per instruction. The bar starts
where the last token's was and is moved by interpolation until exactly k keys reach it, or until it
stands on a tie; a token costs some five passes. The result does not depend on where the search
starts.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_BLOCK = 64


@njit(cache=True, nogil=True)
def reaching(keys, bar):  # noqa: ANN001, ANN201
    """How many keys are at least `bar`."""
    total = np.int32(0)
    for i in range(keys.size):
        total = np.int32(total + np.int32(keys[i] >= bar))
    return np.int64(total)


@njit(cache=True, nogil=True)
def find_bar(keys, k, low, reach_low, high, guess, slope):  # noqa: ANN001, ANN201
    """The bar of the k largest keys: `(bar, surplus, slope)`.

    `surplus` is how many more than k keys reach the bar; all of those are equal to it. Given are
    `low`, which `reach_low >= k` keys reach, `high`, which none reaches, a guess of the bar, and
    the distance of two neighbouring keys there (`slope`), whose update is returned.
    """
    reach_high, inside_low, inside_high, stride = np.int64(0), False, False, 1.0
    if reach_low == k:
        return low, np.int64(0), slope
    bar, step = guess, 0
    while high - low > 1:
        bar = min(max(bar, low + 1), high - 1)
        count = reaching(keys, np.int32(bar))
        if count == k:
            return bar, np.int64(0), slope
        if count > k:
            low, reach_low, inside_low = bar, count, True
        else:
            high, reach_high, inside_high = bar, count, True
        step += 1
        if inside_low and inside_high:
            if step == 12:
                low, high = tighten(keys, low, high)
            if step >= 8 and step % 2 == 0:
                bar = (low + high) // 2
            else:
                slope = (high - low) / (reach_low - reach_high)
                bar = high - np.int64((k - reach_high) * slope)
        elif inside_low:
            bar = low + np.int64((reach_low - k) * slope * stride) + 1
            stride *= 3.0
        else:
            bar = high - np.int64((k - reach_high) * slope * stride) - 1
            stride *= 3.0
    return low, reach_low - k, slope


@njit(cache=True, nogil=True)
def tighten(keys, low, high):  # noqa: ANN001, ANN201
    """Move both bounds onto keys that exist: a search among many equal keys ends at once."""
    least, most = np.int32(high - 1), np.int32(low)
    bottom, top = np.int32(low), np.int32(high - 1)
    for i in range(keys.size):
        key = keys[i]
        inside = key >= bottom and key <= top
        least = min(least, key if inside else least)
        most = max(most, key if inside else most)
    return np.int64(least), np.int64(most) + 1


@njit(cache=True, nogil=True)
def drop_last(chosen, keys, bar, surplus):  # noqa: ANN001, ANN201
    """Unset the `surplus` last of the chosen units whose key is `bar`."""
    end = keys.size
    while surplus > 0:
        begin = max(0, end - _BLOCK)
        equal = np.int32(0)
        for i in range(begin, end):
            equal = np.int32(equal + np.int32(keys[i] == bar))
        if equal <= surplus:
            for i in range(begin, end):
                chosen[i] = np.uint8(chosen[i] & np.uint8(keys[i] != bar))
            surplus -= equal
        else:
            i = end
            while surplus > 0:
                i -= 1
                if keys[i] == bar:
                    chosen[i] = 0
                    surplus -= 1
        end = begin
