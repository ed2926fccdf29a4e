"""Triton kernel of Algorithm 1 with LFU: a program walks the tokens of a sequence, layer and group.

Only imported where Triton is there. The state of the cache is in registers; keys are the bits of
float32, and the one product of eq. 10 is float32, as in `simulator.kernels.select`.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from sweep.gpu.kernels import MAGNITUDE, pattern_of, write_words
from sweep.gpu.search import at_least, find_bar, places, total


@triton.jit
def weighed(values, cached, gamma, PAIRS: tl.constexpr):
    """Keys of eq. 10 without its denominator: abs(x), times gamma if the unit is not cached."""
    pattern = tl.interleave(values << 16, values & -0x10000) if PAIRS else pattern_of(values)
    size = (pattern & MAGNITUDE).to(tl.float32, bitcast=True)
    return tl.where(cached, size, gamma * size).to(tl.int32, bitcast=True)


@triton.jit
def row_of(
    values,
    first: tl.constexpr,
    COUNT: tl.constexpr,
    units: tl.constexpr,
    PAIRS: tl.constexpr,
    EACH: tl.constexpr,
):
    """A block of values: two bfloat16 in an int32 with `PAIRS`, which halves what waits."""
    if PAIRS:
        at = places(first // 2, COUNT // 2, EACH // 2)
        row = tl.load(values + at, mask=at < units // 2, other=0)
    else:
        at = places(first, COUNT, EACH)
        row = tl.load(values + at, mask=at < units, other=0.0)
    return row


@triton.jit
def _set(states, used):
    """States after a token: a use more, and the mark of it."""
    return (states & -3) + 6 * used


@triton.jit
def _rivals(states, TIGHT: tl.constexpr):
    """Uses of what may stay or come, -1 for the others."""
    # TIGHT: what is cached and used stays, the best of what was missing fills the rest; else
    # what is used stays, the best of what else was cached fills the rest
    return tl.where((states & 3) == (2 if TIGHT else 1), states >> 2, -1)


@triton.jit
def _caching(states, kept, TIGHT: tl.constexpr):
    """States whose content is what is `kept`, and what stays in any case."""
    stays = (states >> 1) & states & 1 if TIGHT else (states >> 1) & 1
    return (states & -2) | kept | stays


@triton.jit
def nearer(width, error):
    """Three quarters of a width and of the error: it tends to three mean errors, within which
    almost all bars lie."""
    return (3 * (width >> 2)) + 3 * (tl.minimum(tl.abs(error), 0x0FFFFFFF) >> 2)


@triton.jit(do_not_specialize=["k", "capacity", "tokens", "before"])
def lfu_scan(  # noqa: C901  branches of the compiler, most of them
    values,
    bars,
    states,
    memory,
    packed,
    hits,
    k,
    capacity,
    gamma,
    tokens,
    before,
    units: tl.constexpr,
    WORDS: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    SNAP: tl.constexpr,
    TIGHT: tl.constexpr,
    PAIRS: tl.constexpr,
    EACH: tl.constexpr,
):
    """Algorithm 1 with LFU for each sequence: masks as bits, int32 `[sequences, tokens, WORDS]`,
    and hits.

    `states` int32 `[sequences, units]` are twice the uses of a unit, and 1 if it is cached; `bars`
    are those of plain top-k, from which the search begins. `TIGHT`: the cache holds no more units
    than a token uses. `memory` int32 `[sequences, 2]`: passes of both searches, for measurements.
    """
    sequence = tl.program_id(0).to(tl.int64)
    at_head = places(0, HEAD, EACH)
    at_tail = places(HEAD, TAIL if TAIL > 0 else HEAD, EACH)
    WIDTH: tl.constexpr = units // 2 if PAIRS else units
    values += sequence * tokens * WIDTH
    packed += sequence * tokens * WORDS
    bars += sequence * tokens
    hits += sequence * tokens
    states += sequence * units
    state_head = tl.load(states + at_head, mask=at_head < units, other=0)
    state_tail = state_head
    if TAIL > 0:
        state_tail = tl.load(states + at_tail, mask=at_tail < units, other=0)
    filled = total(state_head & 1, state_tail & 1, TAIL, EACH)
    # in here, states are four times the uses, 2 for a use by this token, and 1 if cached
    state_head = (state_head & 1) | ((state_head >> 1) << 2)
    state_tail = (state_tail & 1) | ((state_tail >> 1) << 2)
    drift, width, slope = k * 0, k * 0 + 0x10000, k * 0.0 + 100.0
    cache_bar, cache_width, cache_slope = k * 0, k * 0, k * 0.0 + 1.0
    all_passes, cache_passes = k * 0, k * 0
    head = row_of(values, 0, HEAD, units, PAIRS, EACH)
    tail = head
    if TAIL > 0:
        tail = row_of(values, HEAD, TAIL, units, PAIRS, EACH)
    level = tl.load(bars)
    for token in range(tokens):
        keys_head = weighed(head, (state_head & 1) == 1, gamma, PAIRS)
        keys_tail = weighed(tail, (state_tail & 1) == 1, gamma, PAIRS)
        if units < HEAD + TAIL:
            if TAIL > 0:
                keys_tail = tl.where(at_tail < units, keys_tail, -1)
            else:
                keys_head = tl.where(at_head < units, keys_head, -1)
        guess = tl.minimum(level + drift, level)
        high = level + 1
        # the next row is on its way while this one is looked at
        ahead = tl.minimum(token + 1, tokens - 1)
        values_ahead = values + ahead.to(tl.int64) * WIDTH
        head = row_of(values_ahead, 0, HEAD, units, PAIRS, EACH)
        tail = head
        if TAIL > 0:
            tail = row_of(values_ahead, HEAD, TAIL, units, PAIRS, EACH)
        next_level = tl.load(bars + ahead)
        bar, some, slope, passes = find_bar(
            keys_head,
            keys_tail,
            k,
            k * 0,
            k * 0 + units,
            high,
            guess,
            width,
            slope,
            SNAP,
            TAIL,
            EACH,
        )
        all_passes += passes
        width = nearer(width, bar - guess)
        drift = bar - level
        level = next_level
        used_head, used_tail = at_least(keys_head, keys_tail, bar, some, TAIL)
        write_words(packed, used_head, 0, WORDS)
        if TAIL > 0:
            write_words(packed, used_tail, HEAD, WORDS)
        packed += WORDS
        state_head, state_tail = _set(state_head, used_head), _set(state_tail, used_tail)
        found = total(
            (state_head >> 1) & state_head & 1, (state_tail >> 1) & state_tail & 1, TAIL, EACH
        )
        tl.store(hits + token, found.to(tl.int64))
        if filled + k - found <= capacity:
            state_head |= (state_head >> 1) & 1
            state_tail |= (state_tail >> 1) & 1
            filled += k - found
        else:
            room = capacity - (found if TIGHT else k)
            rivals = k - found if TIGHT else filled - found
            filled = capacity
            if room > 0:
                worth_head, worth_tail = _rivals(state_head, TIGHT), _rivals(state_tail, TIGHT)
                bar, some, cache_slope, passes = find_bar(
                    worth_head,
                    worth_tail,
                    room,
                    k * 0,
                    rivals,
                    before + token + 2,
                    cache_bar,
                    (cache_width + 15) >> 4,
                    cache_slope,
                    0,
                    TAIL,
                    EACH,
                )
                cache_passes += passes
                cache_width = (3 * cache_width + 8 * tl.abs(bar - cache_bar)) >> 2
                cache_bar = bar
                kept_head, kept_tail = at_least(worth_head, worth_tail, bar, some, TAIL)
                state_head = _caching(state_head, kept_head, TIGHT)
                state_tail = _caching(state_tail, kept_tail, TIGHT)
    state_head = (state_head & 1) | ((state_head >> 2) << 1)
    state_tail = (state_tail & 1) | ((state_tail >> 2) << 1)
    tl.store(states + at_head, state_head, mask=at_head < units)
    if TAIL > 0:
        tl.store(states + at_tail, state_tail, mask=at_tail < units)
    tl.store(memory + sequence * 2, all_passes)
    tl.store(memory + sequence * 2 + 1, cache_passes)
