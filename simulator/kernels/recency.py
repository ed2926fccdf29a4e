"""LRU as a stack algorithm: one recency list holds the caches of every capacity.

Places and units are unsigned, which spares the compiled loops the test for negative indices that
Python's indexing would need.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, count_bits, spread
from simulator.kernels.choose import Bytes
from simulator.kernels.replace import Words

Counts = NDArray[np.int64]
Order = NDArray[np.uint32]


@njit(cache=True, nogil=True)
def partition(order: Order, target: Order, used: Bytes, front: Int, back: Int) -> tuple[Int, Int]:
    """Write units of `order` to `target`, used ones from `front` on, others from `back` on.

    A stable partition without branches; returns the next `front` and `back`.
    """
    front, back = np.uint64(front), np.uint64(back)
    for index in range(order.size):
        unit = order[index]
        hit = np.uint64(used[unit])
        target[front if hit else back] = unit
        front += hit
        back += np.uint64(1) - hit
    return np.int64(front), np.int64(back)


@njit(cache=True, nogil=True)
def advance(
    order: Order, target: Order, used: Bytes, seen: Int, capacity: Int, requests: Int
) -> tuple[Int, Int]:
    """One token: `target` is the next recency list; returns its hits and the units seen so far.

    The first `seen` units of the list have been used before (or are a hot start's); a unit that was
    not seen is no hit, wherever it stands.
    """
    full = min(capacity, seen)
    hits, back = partition(order[:full], target, used, 0, requests)
    front, back = partition(order[full:seen], target, used, hits, back)
    last, _ = partition(order[seen:], target, used, front, back)
    return hits, seen + last - front


@njit(cache=True, nogil=True)
def lru_scan(words: Words, order: Order, seen: Int, capacity: Int, hits: Counts) -> Int:
    """Hits of each token at one capacity; `order` is updated in place, `seen` returned."""
    used, octets = np.zeros(words.shape[1] * 64, np.uint8), words.view(np.uint8)
    row, here, there = used.view(np.uint64), order, np.empty_like(order)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        requests = count_bits(words[token])
        hits[token], seen = advance(here, there, used, seen, capacity, requests)
        here, there = there, here
    if words.shape[0] % 2:
        order[:] = here
    return seen


@njit(cache=True, nogil=True)
def lru_curve_scan(words: Words, order: Order, seen: Int, by_place: Counts) -> Int:
    """Add to `by_place[p]` how often the unit at place p of the list was used when seen before."""
    used, octets = np.zeros(words.shape[1] * 64, np.uint8), words.view(np.uint8)
    row, here, there = used.view(np.uint64), order, np.empty_like(order)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        front, back = np.uint64(0), np.uint64(count_bits(words[token]))
        listed = here[:seen]
        for index in range(listed.size):
            unit = listed[index]
            hit = np.uint64(used[unit])
            there[front if hit else back] = unit
            by_place[index] += np.int64(hit)
            front += hit
            back += np.uint64(1) - hit
        last, _ = partition(here[seen:], there, used, np.int64(front), np.int64(back))
        seen += last - np.int64(front)
        here, there = there, here
    if words.shape[0] % 2:
        order[:] = here
    return seen
