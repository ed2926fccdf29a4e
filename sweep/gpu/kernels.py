"""Triton kernels without state: top-k of many rows, and masks as bits.

Only imported where Triton is there. Scores are float32, bfloat16 or float16; keys are the bits of
float32, as in `simulator.kernels.select`.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from sweep.gpu.search import at_least, find_bar, largest, total

INFINITE = tl.constexpr(0x7F800000)
MAGNITUDE = tl.constexpr(0x7FFFFFFF)
_NONE = tl.constexpr(-0x80000000)


@triton.jit
def pattern_of(values):
    """Bits of values as float32, int32."""
    return values.to(tl.float32).to(tl.int32, bitcast=True)


@triton.jit
def _signed(pattern):
    """Keys that compare as the values do, -0 as 0."""
    size, sign = pattern & MAGNITUDE, pattern >> 31
    return (size ^ sign) - sign


@triton.jit
def _note_fault(size_head, size_tail, at_head, at_tail, faults, place, TAIL: tl.constexpr):
    """Keep the first value of the first row that is not finite: place, unit and kind, as one."""
    bad = tl.where(
        size_head >= INFINITE, at_head * 2 + (size_head > INFINITE).to(tl.int32), MAGNITUDE
    )
    first = tl.min(bad, 0)
    if TAIL > 0:
        of_tail = at_tail * 2 + (size_tail > INFINITE).to(tl.int32)
        first = tl.minimum(first, tl.min(tl.where(size_tail >= INFINITE, of_tail, MAGNITUDE), 0))
    tl.atomic_min(faults, place * 0x200000 + first.to(tl.int64))


@triton.jit(do_not_specialize=["k", "rows", "call"])
def top_k(  # noqa: C901  branches of the compiler, most of them
    values,
    masks,
    bars,
    faults,
    k,
    rows,
    call,
    units: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    ROWS: tl.constexpr,
    SHIFT: tl.constexpr,
    SIGNED: tl.constexpr,
    MASKS: tl.constexpr,
    BARS: tl.constexpr,
):
    """Masks uint8 `[rows, units]` of the k largest of each row, and the bars, of `ROWS` rows.

    `SHIFT` low bits of the patterns are 0 for all values of their type.
    """
    first = tl.program_id(0) * ROWS
    at_head = tl.arange(0, HEAD)
    at_tail = HEAD + tl.arange(0, TAIL if TAIL > 0 else HEAD)
    least = k * 0 + (-(INFINITE >> SHIFT) if SIGNED else 0)
    last, mean_before, slope, width = (
        (k * 0).to(tl.int64),
        k * 0.0,
        k * 0.0 + 1.0,
        (k * 0).to(tl.int64),
    )
    for index in range(tl.minimum(ROWS, rows - first)):
        place = (first + index).to(tl.int64)
        row = values + place * units
        head = pattern_of(tl.load(row + at_head, mask=at_head < units, other=0.0))
        tail = head
        if TAIL > 0:
            tail = pattern_of(tl.load(row + at_tail, mask=at_tail < units, other=0.0))
        size_head, size_tail = head & MAGNITUDE, tail & MAGNITUDE
        most = largest(size_head, size_tail, TAIL)
        if most >= INFINITE:
            where = (call.to(tl.int64) << 20) + place
            _note_fault(size_head, size_tail, at_head, at_tail, faults, where, TAIL)
        if SIGNED:
            head, tail = _signed(head) >> SHIFT, _signed(tail) >> SHIFT
        else:
            head, tail = size_head >> SHIFT, size_tail >> SHIFT
        if units < HEAD + TAIL:
            head = tl.where(at_head < units, head, _NONE)
            if TAIL > 0:
                tail = tl.where(at_tail < units, tail, _NONE)
        # the sum of upper halves, where sums of keys would not fit
        halves: tl.constexpr = 16 - SHIFT if SHIFT < 16 else 0
        summed = total(
            tl.where(at_head < units, head >> halves, 0),
            tl.where(at_tail < units, tail >> halves, 0) if TAIL > 0 else head,
            TAIL,
        )
        mean = summed.to(tl.float32) * ((1 << halves) / units)
        if index == 0:
            last, width = mean.to(tl.int64), (mean * 0.05).to(tl.int64)
            slope = mean / units
            mean_before = mean
        guess = last + (mean - mean_before).to(tl.int64)
        high = (most >> SHIFT).to(tl.int64) + 1
        bar, surplus, slope, _ = find_bar(
            head, tail, k, least.to(tl.int64), k * 0 + units, high, guess, width, slope, 0, TAIL
        )
        error = bar.to(tl.int64) - guess
        width = (3 * width + tl.where(error < 0, -error, error)) // 4
        last, mean_before = bar.to(tl.int64), mean
        if BARS:
            tl.store(bars + place, bar << SHIFT)
        if MASKS:
            of_head, of_tail = at_least(head, tail, bar, surplus, TAIL)
            out = masks + place * units
            tl.store(out + at_head, of_head.to(tl.uint8), mask=at_head < units)
            if TAIL > 0:
                tl.store(out + at_tail, of_tail.to(tl.uint8), mask=at_tail < units)


@triton.jit(do_not_specialize=["rows"])
def pack_bits(masks, packed, rows, units: tl.constexpr, WORDS: tl.constexpr, BLOCK: tl.constexpr):
    """Masks uint8 `[rows, units]` as int32 `[rows, WORDS]`: 32 units a word, lowest bit first."""
    word = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, 32)
    row, column = word // WORDS, (word % WORDS).to(tl.int32)
    unit = column[:, None] * 32 + bit[None, :]
    inside = (row < rows)[:, None] & (unit < units)
    used = tl.load(masks + (row * units)[:, None] + unit, mask=inside, other=0).to(tl.int32)
    tl.store(packed + word, tl.sum(used << bit[None, :], 1), mask=row < rows)
