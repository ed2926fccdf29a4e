"""LFU, Belady and the optimum, one pass over the bits of a trace each."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, gather, popcount, spread
from simulator.kernels.choose import Bytes, Keys
from simulator.kernels.replace import Words, admit

_SPAN = 16  # tokens between two checkpoints of Belady's next uses
Counts = NDArray[np.int64]


@njit(cache=True, nogil=True)
def lfu_scan(
    words: Words,
    cached: Bytes,
    uses: Keys,
    tokens_before: Int,
    capacity: Int,
    memory: NDArray[np.float64],
    hits: Counts,
) -> None:
    """Hits of each token; `cached` and `uses` (both padded to whole words) are updated."""
    used, keys = np.zeros(cached.size, np.uint8), np.empty(cached.size, np.int32)
    row, content, octets = used.view(np.uint64), contents(cached), words.view(np.uint8)
    cached_row, content_octets = cached.view(np.uint64), content.view(np.uint8)
    for token in range(words.shape[0]):
        spread(octets[token], row)
        for i in range(used.size):
            uses[i] += used[i]
        top = tokens_before + token + 2
        hits[token] = admit(used, words[token], cached, content, uses, top, capacity, keys, memory)
        gather(cached_row, content_octets)


@njit(cache=True, nogil=True)
def contents(cached: Bytes) -> Words:
    """The cache content as a row of bits."""
    content = np.empty(cached.size // 64, np.uint64)
    gather(cached.view(np.uint64), content.view(np.uint8))
    return content


@njit(cache=True, nogil=True)
def belady_scan(
    words: Words, cached: Bytes, capacity: Int, memory: NDArray[np.float64], hits: Counts
) -> None:
    """Hits of each token of a whole session.

    The worth of a unit is `tokens - next use`, 0 if it is never used again. A first pass, from the
    end, keeps the worths at every 16th token; the second fills in the tokens between them.
    """
    tokens, units = words.shape[0], cached.size
    used, keys = np.zeros(units, np.uint8), np.empty(units, np.int32)
    row, content, octets = used.view(np.uint64), contents(cached), words.view(np.uint8)
    cached_row, content_octets = cached.view(np.uint64), content.view(np.uint8)
    after = checkpoints(octets, tokens, used)
    worth = np.zeros((_SPAN, units), np.int32)
    for span in range(after.shape[0]):
        begin, end = span * _SPAN, min(tokens, (span + 1) * _SPAN)
        copy(worth[end - 1 - begin], after[span])
        for token in range(end - 1, begin, -1):
            spread(octets[token], row)
            step = token - begin
            recall(worth[step - 1], worth[step], used, np.int32(tokens - token))
        for token in range(begin, end):
            spread(octets[token], row)
            hits[token] = admit(
                used,
                words[token],
                cached,
                content,
                worth[token - begin],
                tokens + 1,
                capacity,
                keys,
                memory,
            )
            gather(cached_row, content_octets)


@njit(cache=True, nogil=True)
def checkpoints(octets: Bytes, tokens: Int, used: Bytes) -> NDArray[np.int32]:
    """Worths of all units after the last token of each span, `[spans, units]`."""
    row = used.view(np.uint64)
    after = np.zeros((-(-tokens // _SPAN), used.size), np.int32)
    worth = np.zeros((2, used.size), np.int32)
    for token in range(tokens - 1, -1, -1):
        if token == tokens - 1 or token % _SPAN == _SPAN - 1:
            copy(after[token // _SPAN], worth[token % 2])
        spread(octets[token], row)
        recall(worth[1 - token % 2], worth[token % 2], used, np.int32(tokens - token))
    return after


@njit(cache=True, nogil=True)
def copy(target: Keys, source: Keys) -> None:
    """Copy a row: slice assignment is compiled to one item at a time."""
    for i in range(source.size):
        target[i] = source[i]


@njit(cache=True, nogil=True)
def recall(before: Keys, after: Keys, used: Bytes, worth: Int) -> None:
    """Worths before a token from those after it: the token's units are next used by it."""
    for i in range(used.size):
        later = after[i]
        before[i] = worth if used[i] != 0 else later


@njit(cache=True, nogil=True)
def min_scan(words: Words, cached: Words, capacity: Int, hits: Counts) -> None:
    """Hits of each token of a whole session, for the policy that no other can beat.

    Units with the same next use are worth the same, so it is enough to count, for each later token,
    the cached units that it is the next to use: they are its hits, and room is made at the far end.
    """
    tokens = words.shape[0]
    ending = np.zeros(tokens + 1, np.int64)  # cached units by the token of their next use
    occupied = np.zeros(tokens // 64 + 1, np.uint64)  # which of these counts are not 0
    total = follow(words, -1, cached, ending, occupied)
    for token in range(tokens):
        hits[token] = ending[token]
        total -= ending[token]
        ending[token] = 0
        occupied[token // 64] &= ~(np.uint64(1) << np.uint64(token % 64))
        total += follow(words, token, words[token], ending, occupied)
        total = shrink(ending, occupied, total, capacity)


@njit(cache=True, nogil=True)
def follow(words: Words, token: Int, used: Words, ending: Counts, occupied: Words) -> Int:
    """Count the next uses of the bits `used` after `token`; returns how many have one."""
    total = np.int64(0)
    for column in range(words.shape[1]):
        rest = used[column]
        later = token + 1
        while rest != 0 and later < words.shape[0]:
            next_used = rest & words[later, column]
            if next_used != 0:
                count = np.int64(popcount(next_used))
                ending[later] += count
                total += count
                occupied[later // 64] |= np.uint64(1) << np.uint64(later % 64)
                rest &= ~next_used
            later += 1
    return total


@njit(cache=True, nogil=True)
def shrink(ending: Counts, occupied: Words, total: Int, capacity: Int) -> Int:
    """Drop cached units of the farthest next uses until at most `capacity` are left."""
    index = occupied.size - 1
    while total > capacity:
        while occupied[index] == 0:
            index -= 1
        last = np.int64(63)
        while not (occupied[index] >> np.uint64(last)) & np.uint64(1):
            last -= 1
        token = index * 64 + last
        drop = min(ending[token], total - capacity)
        ending[token] -= drop
        total -= drop
        if ending[token] == 0:
            occupied[index] &= ~(np.uint64(1) << np.uint64(last))
    return total
