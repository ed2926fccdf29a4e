"""Triton kernels of Algorithm 1: one program walks the tokens of one sequence, layer and group.

Only imported where Triton is there. The state of the cache is in registers; keys are the bits of
float32, and the one product of eq. 10 is float32, as in `simulator.kernels.select`.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from sweep.gpu.kernels import MAGNITUDE, pattern_of
from sweep.gpu.search import at_least, find_bar, total


@triton.jit
def _weighed(values, cached, gamma):
    """Keys of eq. 10 without its denominator: abs(x), times gamma if the unit is not cached."""
    size = (pattern_of(values) & MAGNITUDE).to(tl.float32, bitcast=True)
    return tl.where(cached, size, gamma * size).to(tl.int32, bitcast=True)


@triton.jit
def _row(values, at, units: tl.constexpr):
    return tl.load(values + at, mask=at < units, other=0.0)


@triton.jit(do_not_specialize=["k", "capacity", "tokens", "before"])
def lfu_scan(  # noqa: C901  branches of the compiler, most of them
    values,
    bars,
    states,
    memory,
    masks,
    hits,
    k,
    capacity,
    gamma,
    tokens,
    before,
    units: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    SNAP: tl.constexpr,
    TIGHT: tl.constexpr,
):
    """Algorithm 1 with LFU for each sequence: masks uint8 `[sequences, tokens, units]`, and hits.

    `states` int32 `[sequences, units]` are twice the uses of a unit, and 1 if it is cached; `bars`
    are those of plain top-k, from which the search begins. `TIGHT`: the cache holds no more units
    than a token uses. `memory` int32 `[sequences, 2]`: passes of both searches, for measurements.
    """
    sequence = tl.program_id(0).to(tl.int64)
    at_head = tl.arange(0, HEAD)
    at_tail = HEAD + tl.arange(0, TAIL if TAIL > 0 else HEAD)
    values += sequence * tokens * units
    masks += sequence * tokens * units
    bars += sequence * tokens
    hits += sequence * tokens
    states += sequence * units
    state_head = tl.load(states + at_head, mask=at_head < units, other=0)
    state_tail = state_head
    if TAIL > 0:
        state_tail = tl.load(states + at_tail, mask=at_tail < units, other=0)
    filled = total(state_head & 1, state_tail & 1, TAIL)
    none = (k * 0).to(tl.int64)
    drift, width, slope = none, none + 0x10000, k * 0.0 + 100.0
    cache_bar, cache_width, cache_slope = none, none, k * 0.0 + 1.0
    all_passes, cache_passes = k * 0, k * 0
    head = _row(values, at_head, units)
    tail = head
    if TAIL > 0:
        tail = _row(values, at_tail, units)
    level = tl.load(bars)
    for token in range(tokens):
        keys_head = _weighed(head, (state_head & 1) == 1, gamma)
        keys_tail = _weighed(tail, (state_tail & 1) == 1, gamma)
        if units < HEAD + TAIL:
            keys_head = tl.where(at_head < units, keys_head, -1)
            if TAIL > 0:
                keys_tail = tl.where(at_tail < units, keys_tail, -1)
        high = level.to(tl.int64) + 1
        guess = tl.minimum(level.to(tl.int64) + drift, high)
        # the next row is on its way while this one is looked at
        ahead = tl.minimum(token + 1, tokens - 1)
        values_ahead = values + ahead.to(tl.int64) * units
        head = _row(values_ahead, at_head, units)
        tail = head
        if TAIL > 0:
            tail = _row(values_ahead, at_tail, units)
        next_level = tl.load(bars + ahead)
        bar, surplus, slope, passes = find_bar(
            keys_head, keys_tail, k, none, k * 0 + units, high, guess, width, slope, SNAP, TAIL
        )
        all_passes += passes
        error = bar.to(tl.int64) - guess
        width = (3 * width + tl.where(error < 0, -error, error)) // 4
        drift = bar.to(tl.int64) - level.to(tl.int64)
        level = next_level
        used_head, used_tail = at_least(keys_head, keys_tail, bar, surplus, TAIL)
        tl.store(masks + at_head, used_head.to(tl.uint8), mask=at_head < units)
        if TAIL > 0:
            tl.store(masks + at_tail, used_tail.to(tl.uint8), mask=at_tail < units)
        masks += units
        used_head, used_tail = used_head.to(tl.int32), used_tail.to(tl.int32)
        found = total(used_head & state_head, used_tail & state_tail, TAIL)
        tl.store(hits + token, found.to(tl.int64))
        state_head += 2 * used_head
        state_tail += 2 * used_tail
        if filled + k - found <= capacity:
            state_head |= used_head
            state_tail |= used_tail
            filled += k - found
        else:
            room = capacity - (found if TIGHT else k)
            if TIGHT:  # what is cached and used stays; the best of what was missing fills the rest
                rivals = k - found
                worth_head = tl.where((used_head & (state_head ^ 1)) == 1, state_head >> 1, -1)
                worth_tail = tl.where((used_tail & (state_tail ^ 1)) == 1, state_tail >> 1, -1)
            else:  # what is used stays; the best of what else was cached fills the rest
                rivals = filled - found
                worth_head = tl.where((state_head & (used_head ^ 1) & 1) == 1, state_head >> 1, -1)
                worth_tail = tl.where((state_tail & (used_tail ^ 1) & 1) == 1, state_tail >> 1, -1)
            filled = capacity
            if room > 0:
                top = (before + token + 2).to(tl.int64)
                bar, surplus, cache_slope, passes = find_bar(
                    worth_head,
                    worth_tail,
                    room,
                    none,
                    rivals,
                    top,
                    cache_bar,
                    cache_width,
                    cache_slope,
                    0,
                    TAIL,
                )
                cache_passes += passes
                cache_bar = bar.to(tl.int64)
                kept_head, kept_tail = at_least(worth_head, worth_tail, bar, surplus, TAIL)
                if TIGHT:
                    kept_head |= (used_head & state_head & 1) == 1
                    kept_tail |= (used_tail & state_tail & 1) == 1
                else:
                    kept_head |= used_head == 1
                    kept_tail |= used_tail == 1
                state_head = (state_head & -2) | kept_head.to(tl.int32)
                state_tail = (state_tail & -2) | kept_tail.to(tl.int32)
    tl.store(states + at_head, state_head, mask=at_head < units)
    if TAIL > 0:
        tl.store(states + at_tail, state_tail, mask=at_tail < units)
    tl.store(memory + sequence * 2, all_passes)
    tl.store(memory + sequence * 2 + 1, cache_passes)


@triton.jit(do_not_specialize=["k", "capacity", "tokens"])
def lru_scan(
    values,
    bars,
    orders,
    seens,
    scratch,
    memory,
    masks,
    hits,
    k,
    capacity,
    gamma,
    tokens,
    units: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    SNAP: tl.constexpr,
):
    """Algorithm 1 with LRU for each sequence: masks uint8 `[sequences, tokens, units]`, and hits.

    `orders` int32 `[sequences, units]` are the recency lists, of which the first `seens` units have
    been used before. Through `scratch` int32 `[sequences, 2 units]` the threads of a program hand
    units to each other: the next list, and the places of the units in it.
    """
    sequence = tl.program_id(0).to(tl.int64)
    at_head = tl.arange(0, HEAD)
    at_tail = HEAD + tl.arange(0, TAIL if TAIL > 0 else HEAD)
    in_head, in_tail = at_head < units, at_tail < units
    values += sequence * tokens * units
    masks += sequence * tokens * units
    bars += sequence * tokens
    hits += sequence * tokens
    orders += sequence * units
    listed, places = scratch + sequence * 2 * units, scratch + (sequence * 2 + 1) * units
    order_head = tl.load(orders + at_head, mask=in_head, other=0)
    order_tail = order_head
    tl.store(places + order_head, at_head, mask=in_head)
    if TAIL > 0:
        order_tail = tl.load(orders + at_tail, mask=in_tail, other=0)
        tl.store(places + order_tail, at_tail, mask=in_tail)
    seen = tl.load(seens + sequence)
    tl.debug_barrier()
    none = (k * 0).to(tl.int64)
    drift, width, slope = none, none + 0x10000, k * 0.0 + 100.0
    all_passes = k * 0
    for token in range(tokens):
        full = tl.minimum(capacity, seen)
        cached = tl.load(places + at_head, mask=in_head, other=0) < full
        keys_head = tl.where(in_head, _weighed(_row(values, at_head, units), cached, gamma), -1)
        keys_tail = keys_head
        if TAIL > 0:
            cached_tail = tl.load(places + at_tail, mask=in_tail, other=0) < full
            keys_tail = _weighed(_row(values, at_tail, units), cached_tail, gamma)
            keys_tail = tl.where(in_tail, keys_tail, -1)
        level = tl.load(bars + token).to(tl.int64)
        high = level + 1
        guess = tl.minimum(level + drift, high)
        bar, surplus, slope, passes = find_bar(
            keys_head, keys_tail, k, none, k * 0 + units, high, guess, width, slope, SNAP, TAIL
        )
        all_passes += passes
        error = bar.to(tl.int64) - guess
        width = (3 * width + tl.where(error < 0, -error, error)) // 4
        drift = bar.to(tl.int64) - level
        used_head, used_tail = at_least(keys_head, keys_tail, bar, surplus, TAIL)
        tl.store(masks + at_head, used_head.to(tl.uint8), mask=in_head)
        if TAIL > 0:
            tl.store(masks + at_tail, used_tail.to(tl.uint8), mask=in_tail)
        tl.debug_barrier()
        # used units go to the front of the list, the others behind them, both in their order
        asked = tl.load(masks + order_head, mask=in_head, other=0).to(tl.int32)
        front = tl.cumsum(asked, 0)
        target = tl.where(asked == 1, front - 1, k + at_head - front)
        found = tl.sum(asked * (at_head < full).to(tl.int32), 0)
        fresh = tl.sum(asked * (at_head >= seen).to(tl.int32), 0)
        tl.store(listed + target, order_head, mask=in_head)
        tl.store(places + order_head, target, mask=in_head)
        if TAIL > 0:
            asked_tail = tl.load(masks + order_tail, mask=in_tail, other=0).to(tl.int32)
            front_tail = tl.cumsum(asked_tail, 0) + tl.sum(asked, 0)
            target_tail = tl.where(asked_tail == 1, front_tail - 1, k + at_tail - front_tail)
            found += tl.sum(asked_tail * (at_tail < full).to(tl.int32), 0)
            fresh += tl.sum(asked_tail * (at_tail >= seen).to(tl.int32), 0)
            tl.store(listed + target_tail, order_tail, mask=in_tail)
            tl.store(places + order_tail, target_tail, mask=in_tail)
        tl.debug_barrier()
        order_head = tl.load(listed + at_head, mask=in_head, other=0)
        if TAIL > 0:
            order_tail = tl.load(listed + at_tail, mask=in_tail, other=0)
        tl.debug_barrier()
        tl.store(hits + token, found.to(tl.int64))
        seen += fresh
        values += units
        masks += units
    tl.store(orders + at_head, order_head, mask=in_head)
    if TAIL > 0:
        tl.store(orders + at_tail, order_tail, mask=in_tail)
    tl.store(seens + sequence, seen)
    tl.store(memory + sequence * 2, all_passes)
