"""The policies of `simulator.engine_policies`, one pass over the bits of a session each."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, common, count_bits, gather, spread
from simulator.kernels.choose import Bytes, drop_last, find_bar, new_memory
from simulator.kernels.recency import Order, advance
from simulator.kernels.replace import Words
from simulator.kernels.scans import Counts, contents

Worths = NDArray[np.float64]


@njit(cache=True, nogil=True)
def window_scan(
    words: Words, order: Order, seen: Int, capacity: Int, span: Int, hits: Counts
) -> None:
    """Hits of each token when the cache holds what the last `span` tokens used, as far as it fits.

    Units of one last use stand together in the recency list, so the content is as much of its
    beginning as is recent and fits: `lru` with a capacity that changes. `stamps` are tokens
    counted from 1; 0 is a hot start, -1 is never.
    """
    tokens, used = words.shape[0], np.zeros(words.shape[1] * 64, np.uint8)
    row, octets, spare = used.view(np.uint64), words.view(np.uint8), np.empty_like(order)
    stamps = np.full(order.size, 0 if seen else -1, np.int64)
    by_stamp = np.zeros(tokens + 1, np.int64)  # units whose last use has that stamp
    recent = by_stamp[0] = seen
    for token in range(tokens):
        spread(octets[token], row)
        now, requests = token + 1, count_bits(words[token])
        hits[token], seen = advance(order, spare, used, seen, min(capacity, recent), requests)
        order, spare = spare, order
        for index in range(requests):
            unit = order[index]
            before = stamps[unit]
            stamps[unit] = now
            if before >= 0:
                by_stamp[before] -= 1
                recent -= np.int64(before >= now - span)
        by_stamp[now] = requests
        recent += requests
        if now >= span:
            recent -= by_stamp[now - span]


@njit(cache=True, nogil=True)
def lfu_admit_scan(words: Words, cached: Bytes, capacity: Int, hits: Counts) -> None:
    """Hits of each token under LFU with admission; `cached` (padded to whole words) is updated.

    A rival for the room that found units leave is a resident or a newcomer; its key is twice its
    uses, and 1 more for a resident.
    """
    units = cached.size
    used, keys, uses = (
        np.zeros(units, np.uint8),
        np.empty(units, np.int32),
        np.zeros(units, np.int32),
    )
    row, octets, memory = used.view(np.uint64), words.view(np.uint8), new_memory()
    content = contents(cached)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        for i in range(units):
            uses[i] += used[i]
        common_units, requests = common(words[token], content), count_bits(words[token])
        rivals, room = count_bits(content) + requests - 2 * common_units, capacity - common_units
        hits[token] = common_units
        if rivals <= room:
            for i in range(units):
                cached[i] |= used[i]
        elif room > 0:
            for i in range(units):
                key = np.int32(2 * uses[i] + cached[i])
                keys[i] = key if cached[i] != used[i] else np.int32(-1)
            zero, top = np.int64(0), np.int64(2 * token + 4)
            low, surplus = find_bar(keys, room, zero, rivals, top, np.int64(memory[0]), memory)
            bar = np.int32(low)
            for i in range(units):
                cached[i] = np.uint8(keys[i] >= bar) | (used[i] & cached[i])
            drop_last(cached, keys, bar, surplus)
        gather(cached.view(np.uint64), content.view(np.uint8))


@njit(cache=True, nogil=True)
def lfru_scan(words: Words, cached: Bytes, capacity: Int, hits: Counts) -> None:
    """Hits of each token under uses over age; `cached` (padded to whole words) is updated.

    A quotient of two numbers below 2**25 is told from every other by its float64: sessions are
    shorter than that.
    """
    units = cached.size
    used, rival = np.zeros(units, np.uint8), np.zeros(units, np.uint8)
    uses, last, worth = np.zeros(units), np.full(units, -1.0), np.empty(units)
    row, octets, content = used.view(np.uint64), words.view(np.uint8), contents(cached)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        for i in range(units):
            uses[i] += used[i]
            last[i] = token if used[i] else last[i]
        common_units, requests = common(words[token], content), count_bits(words[token])
        hits[token] = common_units
        if count_bits(content) + requests - common_units <= capacity:
            for i in range(units):
                cached[i] |= used[i]
        elif common_units < capacity:  # else the whole content was used, and stays
            newcomers = np.uint8(requests >= capacity)  # else residents are rivals
            for i in range(units):
                rival[i] = used[i] & (1 - cached[i]) if newcomers else cached[i] & (1 - used[i])
                worth[i] = uses[i] / (token + 1 - last[i])
                cached[i] = used[i] & cached[i] if newcomers else used[i]
            keep_best(cached, rival, worth, capacity - (common_units if newcomers else requests))
        gather(cached.view(np.uint64), content.view(np.uint8))


@njit(cache=True, nogil=True)
def keep_best(cached: Bytes, rival: Bytes, worth: Worths, room: Int) -> None:
    """Set the bytes of the `room` rivals of most worth, ties to the lower unit; at least so many
    rivals there must be."""
    if room == 0:
        return
    values = worth[rival != 0]
    bar = np.partition(values, values.size - room)[values.size - room]
    ties = room
    for i in range(values.size):
        ties -= np.int64(values[i] > bar)
    for i in range(cached.size):
        if rival[i] and worth[i] >= bar:
            if worth[i] > bar:
                cached[i] = 1
            elif ties > 0:
                cached[i] = 1
                ties -= 1


@njit(cache=True, nogil=True)
def slru_scan(words: Words, order: Order, filled: Int, share: Int, hits: Counts) -> None:
    """Hits of each token under segmented LRU with `share` protected of the `order.size` slots.

    The first `filled` of `order` are cached, protected ones before those on probation.
    """
    units = words.shape[1] * 64
    used, cached = np.zeros(units, np.uint8), np.zeros(units, np.uint8)
    row, octets = used.view(np.uint64), words.view(np.uint8)
    following, spare = np.empty_like(order), np.empty_like(order)
    for index in range(filled):
        cached[order[index]] = 1
    protected = min(share, filled)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        common_units = pick(following, 0, order[:filled], used, 1)
        safe = pick(following, common_units, order[:protected], used, 0)
        end = min(safe, max(share, common_units))
        late = spare[: safe - end]
        late[:] = following[end:safe]
        end = pick_new(following, end, used, cached)
        end = pick(following, end, late, used, 0)
        end = pick(following, end, order[protected:filled], used, 0)
        for index in range(filled):
            cached[order[index]] = 0
        for index in range(end):
            cached[following[index]] = 1
        hits[token], filled, protected = common_units, end, min(share, safe)
        order, following = following, order


@njit(cache=True, nogil=True)
def pick(target: Order, index: Int, source: Order, used: Bytes, flag: Int) -> Int:
    """Write the units of `source` that are used (`flag` 1) or unused (0) to `target` from `index`
    on, until it is full; returns the place after them."""
    for i in range(source.size):
        if used[source[i]] == flag and index < target.size:
            target[index] = source[i]
            index += 1
    return index


@njit(cache=True, nogil=True)
def pick_new(target: Order, index: Int, used: Bytes, cached: Bytes) -> Int:
    """Write the units that are used and not cached, the lower first, as `pick` does."""
    for unit in range(used.size):
        if index == target.size:
            break
        if used[unit] > cached[unit]:
            target[index] = unit
            index += 1
    return index
