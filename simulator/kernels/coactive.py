"""Units in a chain of nearest neighbours, by the tokens that use one of two and not the other."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, popcount

Words = NDArray[np.uint64]


@njit(cache=True, nogil=True)
def apart(first: Words, second: Words, most: Int) -> Int:
    """Bits in which two rows differ; some number above `most` as soon as there are more."""
    total = 0
    for i in range(first.size):
        total += np.int64(popcount(first[i] ^ second[i]))
        if total > most:
            break
    return total


@njit(cache=True, nogil=True)
def chain(used_by: Words, first: Int, order: NDArray[np.int64]) -> None:
    """Write the units of `used_by` [units, words of tokens] into `order`, from `first` on: after
    each unit the nearest of those left, of equal ones the lowest."""
    units = len(used_by)
    left = np.arange(units)  # rising
    place, count = first, units
    for i in range(units):
        last = left[place]
        order[i] = last
        count -= 1
        left[place:count] = left[place + 1 : count + 1]
        least = used_by.shape[1] * 64 + 1
        for j in range(count):
            distance = apart(used_by[last], used_by[left[j]], least)
            if distance < least:
                least, place = distance, j
