"""Triton kernel of Algorithm 1 with LRU: one program walks the tokens of one sequence, layer and
group.

Only imported where Triton is there.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from sweep.gpu.kernels import write_words
from sweep.gpu.scans import nearer, weighed
from sweep.gpu.search import at_least, find_bar, places, ranks, total


@triton.jit
def _keys(values, at_list, at, full, gamma, units: tl.constexpr):
    """Keys of a block; a unit is cached that stands among the first `full` of the list."""
    cached = tl.load(at_list + at, mask=at < units, other=0) < full
    keys = weighed(tl.load(values + at, mask=at < units, other=0.0), cached, gamma, False)
    return tl.where(at < units, keys, -1)


@triton.jit
def _asked(packed, order, inside):
    """Whether a token uses the units of a block of the list, int32."""
    word = tl.load(packed + (order >> 5), mask=inside, other=0)
    return (word >> (order & 31)) & 1


@triton.jit
def _move(listed, at_list, order, asked, front, at, k, inside):
    """Hand a block of the list on: used units to the front, the others behind them."""
    target = tl.where(asked == 1, front - 1, k + at - front)
    tl.store(listed + target, order, mask=inside)
    tl.store(at_list + order, target, mask=inside)


@triton.jit(do_not_specialize=["k", "capacity", "tokens"])
def lru_scan(
    values,
    bars,
    orders,
    seens,
    scratch,
    memory,
    packed,
    hits,
    k,
    capacity,
    gamma,
    tokens,
    units: tl.constexpr,
    WORDS: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    EACH: tl.constexpr,
    SNAP: tl.constexpr,
):
    """Algorithm 1 with LRU for each sequence: masks as words, int32 `[sequences, tokens, WORDS]`,
    and hits.

    `orders` int32 `[sequences, units]` are the recency lists, of which the first `seens` units have
    been used before. Through `scratch` int32 `[sequences, 2 units]` the threads of a program hand
    units to each other: the next list, and the places of the units in it. `memory` int32
    `[sequences, 2]`: passes of the search, for measurements.
    """
    sequence = tl.program_id(0).to(tl.int64)
    at_head = places(0, HEAD, EACH)
    at_tail = places(HEAD, TAIL if TAIL > 0 else HEAD, EACH)
    in_head, in_tail = at_head < units, at_tail < units
    values += sequence * tokens * units
    packed += sequence * tokens * WORDS
    bars += sequence * tokens
    hits += sequence * tokens
    orders += sequence * units
    listed, at_list = scratch + sequence * 2 * units, scratch + (sequence * 2 + 1) * units
    order_head = tl.load(orders + at_head, mask=in_head, other=0)
    order_tail = order_head
    tl.store(at_list + order_head, at_head, mask=in_head)
    if TAIL > 0:
        order_tail = tl.load(orders + at_tail, mask=in_tail, other=0)
        tl.store(at_list + order_tail, at_tail, mask=in_tail)
    seen = tl.load(seens + sequence)
    tl.debug_barrier()
    drift, width, slope = k * 0, k * 0 + 0x10000, k * 0.0 + 100.0
    all_passes = k * 0
    for token in range(tokens):
        full = tl.minimum(capacity, seen)
        keys_head = _keys(values, at_list, at_head, full, gamma, units)
        keys_tail = keys_head
        if TAIL > 0:
            keys_tail = _keys(values, at_list, at_tail, full, gamma, units)
        level = tl.load(bars + token)
        guess = tl.minimum(level + drift, level)
        bar, some, slope, passes = find_bar(
            keys_head, keys_tail, k, k * 0, k * 0 + units, level + 1, guess, width, slope, SNAP,
            TAIL, EACH,
        )  # fmt: skip
        all_passes += passes
        width = nearer(width, bar - guess)
        drift = bar - level
        used_head, used_tail = at_least(keys_head, keys_tail, bar, some, TAIL)
        write_words(packed, used_head, 0, WORDS)
        if TAIL > 0:
            write_words(packed, used_tail, HEAD, WORDS)
        tl.debug_barrier()
        # used units go to the front of the list, the others behind them, both in their order
        asked_head = _asked(packed, order_head, in_head)
        asked_tail = asked_head
        front = ranks(asked_head)
        _move(listed, at_list, order_head, asked_head, front, at_head, k, in_head)
        if TAIL > 0:
            asked_tail = _asked(packed, order_tail, in_tail)
            front_tail = ranks(asked_tail) + tl.max(front, 0)
            _move(listed, at_list, order_tail, asked_tail, front_tail, at_tail, k, in_tail)
        tl.debug_barrier()
        counts_head = asked_head * tl.where(at_head < full, 1, tl.where(at_head >= seen, 65536, 0))
        counts_tail = asked_tail * tl.where(at_tail < full, 1, tl.where(at_tail >= seen, 65536, 0))
        order_head = tl.load(listed + at_head, mask=in_head, other=0)
        if TAIL > 0:
            order_tail = tl.load(listed + at_tail, mask=in_tail, other=0)
        if units < 32768:
            both = total(counts_head, counts_tail, TAIL, EACH)
            found, fresh = both & 0xFFFF, both >> 16
        else:
            found = total(counts_head & 1, counts_tail & 1, TAIL, EACH)
            fresh = total(counts_head >> 16, counts_tail >> 16, TAIL, EACH)
        tl.debug_barrier()
        tl.store(hits + token, found.to(tl.int64))
        seen += fresh
        values += units
        packed += WORDS
    tl.store(orders + at_head, order_head, mask=in_head)
    if TAIL > 0:
        tl.store(orders + at_tail, order_tail, mask=in_tail)
    tl.store(seens + sequence, seen)
    tl.store(memory + sequence * 2, all_passes)
