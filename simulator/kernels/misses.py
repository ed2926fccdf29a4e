"""Which used units a cache did not hold, as bits: the policies of `scans` and `recency` once more.

Each loop is that of the kernel which counts hits; instead of a count, a token leaves the bits of
what it used and did not find.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulator.kernels.bits import Int, count_bits, gather, spread
from simulator.kernels.choose import Bytes, Keys, drop_last, find_bar, new_memory
from simulator.kernels.recency import Order, advance
from simulator.kernels.replace import Words, admit
from simulator.kernels.scans import checkpoints, contents, recall
from simulator.kernels.select import mark

_SPAN = 16  # as in `scans.checkpoints`


@njit(cache=True, nogil=True)
def without(used: Words, content: Words, missed: Words) -> None:
    """Write the bits of `used` that are not in `content`."""
    for i in range(used.size):
        missed[i] = used[i] & ~content[i]


@njit(cache=True, nogil=True)
def lru_misses(words: Words, order: Order, seen: Int, capacity: Int, missed: Words) -> Int:
    """Missed bits `[tokens, words]`; `order` is updated in place, the units seen are returned."""
    used, cached = np.zeros(words.shape[1] * 64, np.uint8), np.zeros(words.shape[1] * 64, np.uint8)
    row, octets = used.view(np.uint64), words.view(np.uint8)
    content, here, there = contents(cached), order, np.empty_like(order)
    for token in range(words.shape[0]):
        mark(cached, here[: min(capacity, seen)])
        gather(cached.view(np.uint64), content.view(np.uint8))
        without(words[token], content, missed[token])
        spread(octets[token], row)
        _, seen = advance(here, there, used, seen, capacity, count_bits(words[token]))
        here, there = there, here
    if words.shape[0] % 2:
        order[:] = here
    return seen


@njit(cache=True, nogil=True)
def lfu_misses(
    words: Words,
    cached: Bytes,
    uses: Keys,
    tokens_before: Int,
    capacity: Int,
    memory: NDArray[np.float64],
    missed: Words,
) -> None:
    """Missed bits `[tokens, words]`; `cached` and `uses` (padded to whole words) are updated."""
    used, keys = np.zeros(cached.size, np.uint8), np.empty(cached.size, np.int32)
    row, content, octets = used.view(np.uint64), contents(cached), words.view(np.uint8)
    for token in range(words.shape[0]):
        without(words[token], content, missed[token])
        spread(octets[token], row)
        for i in range(used.size):
            uses[i] += used[i]
        top = tokens_before + token + 2
        admit(used, words[token], cached, content, uses, top, capacity, keys, memory)
        gather(cached.view(np.uint64), content.view(np.uint8))


@njit(cache=True, nogil=True)
def offline_misses(
    words: Words, cached: Bytes, capacity: Int, optimal: bool, missed: Words
) -> None:
    """Missed bits `[tokens, words]` of a whole session, under `min` if `optimal`, else `belady`."""
    tokens, units = words.shape[0], cached.size
    used, keys = np.zeros(units, np.uint8), np.empty(units, np.int32)
    row, content, octets = used.view(np.uint64), contents(cached), words.view(np.uint8)
    after, memory = checkpoints(octets, tokens, used), new_memory()
    worth = np.zeros((_SPAN, units), np.int32)
    for span in range(after.shape[0]):
        begin, end = span * _SPAN, min(tokens, (span + 1) * _SPAN)
        worth[end - 1 - begin, :] = after[span]
        for token in range(end - 1, begin, -1):
            spread(octets[token], row)
            step = token - begin
            recall(worth[step - 1], worth[step], used, np.int32(tokens - token))
        for token in range(begin, end):
            without(words[token], content, missed[token])
            spread(octets[token], row)
            values = worth[token - begin]
            if optimal:
                keep_nearest(used, cached, values, tokens + 1, capacity, keys, memory)
            else:
                admit(
                    used,
                    words[token],
                    cached,
                    content,
                    values,
                    tokens + 1,
                    capacity,
                    keys,
                    memory,
                )
            gather(cached.view(np.uint64), content.view(np.uint8))


@njit(cache=True, nogil=True)
def keep_nearest(
    used: Bytes,
    cached: Bytes,
    worth: Keys,
    top: Int,
    capacity: Int,
    keys: Keys,
    memory: NDArray[np.float64],
) -> None:
    """Of all units cached or used, keep those of most worth, ties to the lower unit."""
    rivals = np.int64(0)
    for i in range(used.size):
        cached[i] |= used[i]
        rivals += np.int64(cached[i])
        keys[i] = worth[i] if cached[i] else np.int32(-1)
    if capacity == 0:
        cached[:] = 0
    elif rivals > capacity:
        low, surplus = find_bar(
            keys, capacity, np.int64(0), rivals, top, np.int64(memory[0]), memory
        )
        bar = np.int32(low)
        for i in range(used.size):
            cached[i] = np.uint8(keys[i] >= bar)
        drop_last(cached, keys, bar, surplus)
