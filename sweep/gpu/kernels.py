"""Triton kernels without state: top-k of many rows, and masks as bits.

Only imported where Triton is there. Scores are float32, bfloat16 or float16; keys are the bits of
float32, as in `simulator.kernels.select`.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportAssignmentType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from sweep.gpu.search import at_least, find_bar, largest, places, reaching, total, words_of

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


@triton.jit
def write_words(packed, bits, first: tl.constexpr, words: tl.constexpr):
    """A block of 0 and 1 as words."""
    block = words_of(bits)
    at = first // 32 + tl.arange(0, block.shape[0])
    tl.store(packed + at, block, mask=at < words)


@triton.jit
def _keep(target, values, bits, at, units: tl.constexpr, ONES: tl.constexpr):
    """The values of what is chosen, or ones, and 0 for the rest."""
    kept = bits.to(tl.float32).to(values.dtype) if ONES else tl.where(bits == 1, values, 0.0)
    tl.store(target + at, kept, mask=at < units)


@triton.jit(do_not_specialize=["k", "rows", "call"])
def top_k(  # noqa: C901  branches of the compiler, most of them
    values,
    packed,
    target,
    bars,
    faults,
    k,
    rows,
    call,
    units: tl.constexpr,
    WORDS: tl.constexpr,
    HEAD: tl.constexpr,
    TAIL: tl.constexpr,
    EACH: tl.constexpr,
    ROWS: tl.constexpr,
    SHIFT: tl.constexpr,
    SIGNED: tl.constexpr,
    PACKED: tl.constexpr,
    TARGET: tl.constexpr,
    ONES: tl.constexpr,
    BARS: tl.constexpr,
):
    """The k largest of each row, of `ROWS` rows: masks as words `[rows, WORDS]`, what is kept of
    the values (or ones), and the bars, each where it is asked for.

    `SHIFT` low bits of the patterns are 0 for all values of their type. The search in a row begins
    at the bar of the last one, moved by the change of the mean key.
    """
    first = tl.program_id(0) * ROWS
    at_head = places(0, HEAD, EACH)
    at_tail = places(HEAD, TAIL if TAIL > 0 else HEAD, EACH)
    last, width = k * 0, k * 0
    mean_before, slope = k * 0.0, k * 0.0 + 1.0
    for index in range(tl.minimum(ROWS, rows - first)):
        place = (first + index).to(tl.int64)
        row = values + place * units
        values_head = tl.load(row + at_head, mask=at_head < units, other=0.0)
        values_tail = values_head
        if TAIL > 0:
            values_tail = tl.load(row + at_tail, mask=at_tail < units, other=0.0)
        head, tail = pattern_of(values_head), pattern_of(values_tail)
        size_head, size_tail = head & MAGNITUDE, tail & MAGNITUDE
        most = largest(size_head, size_tail, TAIL)
        if most >= INFINITE:
            where = (call.to(tl.int64) << 20) + place
            _note_fault(size_head, size_tail, at_head, at_tail, faults, where, TAIL)
        if SIGNED:
            head, tail = _signed(head) >> SHIFT, _signed(tail) >> SHIFT
        else:
            head, tail = size_head >> SHIFT, size_tail >> SHIFT
        # the sum of upper halves, where sums of keys would not fit
        halves: tl.constexpr = 16 - SHIFT if SHIFT < 16 else 0
        mean = total(head >> halves, tail >> halves, TAIL, EACH).to(tl.float32) * (
            (1 << halves) / units
        )
        if units < HEAD + TAIL:
            if TAIL > 0:
                tail = tl.where(at_tail < units, tail, _NONE)
            else:
                head = tl.where(at_head < units, head, _NONE)
        if index == 0:
            last, width = mean.to(tl.int32), (tl.abs(mean) * 0.05).to(tl.int32)
            slope = tl.abs(mean) / units
            mean_before = mean
        guess = last + (mean - mean_before).to(tl.int32)
        low, reach_low, high = k * 0, k * 0 + units, (most >> SHIFT) + 1
        if SIGNED:  # so that the distance of the bounds fits in int32
            reached, _ = reaching(head, tail, low, low, TAIL, EACH)
            low = tl.where(reached >= k, 0, -(INFINITE >> SHIFT))
            reach_low = tl.where(reached >= k, reached, units)
            high = tl.where(reached >= k, high, 0)
        bar, some, slope, _ = find_bar(
            head, tail, k, low, reach_low, high, guess, width, slope, 0, TAIL, EACH
        )
        width = (3 * width + 2 * tl.minimum(tl.abs(bar - guess), 0x0FFFFFFF)) >> 2
        last, mean_before = bar, mean
        if BARS:
            tl.store(bars + place, bar << SHIFT)
        if PACKED or TARGET:
            of_head, of_tail = at_least(head, tail, bar, some, TAIL)
            if PACKED:
                write_words(packed + place * WORDS, of_head, 0, WORDS)
                if TAIL > 0:
                    write_words(packed + place * WORDS, of_tail, HEAD, WORDS)
            if TARGET:
                out = target + place * units
                _keep(out, values_head, of_head, at_head, units, ONES)
                if TAIL > 0:
                    _keep(out, values_tail, of_tail, at_tail, units, ONES)


@triton.jit(do_not_specialize=["rows"])
def keep_bits(
    values,
    packed,
    target,
    rows,
    units: tl.constexpr,
    WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
    ONES: tl.constexpr,
):
    """Values of the units whose bit is set, or ones, and 0 for the rest, `BLOCK` at a time."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < units
    word = tl.load(packed + row * WORDS + at // 32, mask=inside, other=0)
    bits = (word >> (at % 32)) & 1
    row_values = tl.load(values + row * units + at, mask=inside, other=0.0)
    kept = (
        bits.to(tl.float32).to(row_values.dtype) if ONES else tl.where(bits == 1, row_values, 0.0)
    )
    tl.store(target + row * units + at, kept, mask=inside)
