"""LRU as a stack algorithm: one recency list holds the caches of every capacity."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, count_bits, spread
from simulator.kernels.choose import Bytes, Keys
from simulator.kernels.replace import Words

Counts = NDArray[np.int64]


@njit(cache=True, nogil=True)
def partition(
    order: Keys, target: Keys, used: Bytes, begin: Int, end: Int, front: Int, requests: Int
) -> Int:
    """Write `order[begin:end]` to `target`: used units at `front` on, others after `requests`.

    A stable partition without branches; returns `front` after the used units.
    """
    for place in range(begin, end):
        unit = order[place]
        hit = np.int64(used[unit])
        target[front if hit else requests + place - front] = unit
        front += hit
    return front


@njit(cache=True, nogil=True)
def advance(
    order: Keys, target: Keys, used: Bytes, seen: Int, capacity: Int, requests: Int
) -> tuple[Int, Int]:
    """One token: `target` is the next recency list; returns its hits and the units seen so far.

    The first `seen` units of the list have been used before (or are a hot start's); a unit that was
    not seen is no hit, wherever it stands.
    """
    full = min(capacity, seen)
    hits = partition(order, target, used, 0, full, 0, requests)
    front = partition(order, target, used, full, seen, hits, requests)
    last = partition(order, target, used, seen, order.size, front, requests)
    return hits, seen + last - front


@njit(cache=True, nogil=True)
def lru_scan(words: Words, order: Keys, seen: Int, capacity: Int, hits: Counts) -> Int:
    """Hits of each token at one capacity; `order` is updated in place, `seen` returned."""
    used, octets = np.zeros(words.shape[1] * 64, np.uint8), words.view(np.uint8)
    row, spare = used.view(np.uint64), np.empty_like(order)
    here, there = order, spare
    for token in range(words.shape[0]):
        spread(octets[token], row)
        requests = count_bits(words[token])
        hits[token], seen = advance(here, there, used, seen, capacity, requests)
        here, there = there, here
    if words.shape[0] % 2:
        order[:] = spare
    return seen


@njit(cache=True, nogil=True)
def lru_curve_scan(words: Words, order: Keys, seen: Int, by_place: Counts) -> Int:
    """Add to `by_place[p]` how often the unit at place p of the list was used when seen before."""
    used, octets = np.zeros(words.shape[1] * 64, np.uint8), words.view(np.uint8)
    row, spare = used.view(np.uint64), np.empty_like(order)
    here, there = order, spare
    for token in range(words.shape[0]):
        spread(octets[token], row)
        requests, front = count_bits(words[token]), np.int64(0)
        for place in range(seen):
            unit = here[place]
            hit = np.int64(used[unit])
            there[front if hit else requests + place - front] = unit
            by_place[place] += hit
            front += hit
        last = partition(here, there, used, seen, here.size, front, requests)
        seen += last - front
        here, there = there, here
    if words.shape[0] % 2:
        order[:] = spare
    return seen
