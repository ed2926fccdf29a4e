"""The bar of the k largest keys of one row, found by counting inside one Triton program.

A row is held in two tensors, `head` and `tail`, for their sizes are powers of two and the number of
units is none: 17,920 units take 16,384 + 2,048 places, not 32,768. A program that needs no tail has
`TAIL` 0 and gives the head in its place. Keys are int32; places past the last unit hold a key below
all others. The search is that of `simulator.kernels.choose`: two bars a pass around a guess, closed
in by interpolation. Where it starts changes its length, never its result. All warps of a program
compute its scalars, so these are int32 and few.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

PATIENCE = tl.constexpr(6)
"""Passes after which interpolation is no longer trusted alone."""
_HIGHEST = tl.constexpr(0x7FFFFFFF)
_LOWEST = tl.constexpr(-0x80000000)


@triton.jit
def _folded(head, tail, TAIL: tl.constexpr, EACH: tl.constexpr):
    """A short row with the sum of a row: one reduction over all threads for head and tail.

    Where threads hold `EACH` neighbours of both, no thread needs another one for it.
    """
    result = head
    if TAIL > 0:
        FEW: tl.constexpr = TAIL // EACH
        by_place = tl.sum(tl.reshape(head, [head.shape[0] // TAIL, FEW, EACH]), 2)
        result = tl.sum(by_place, 0) + tl.sum(tl.reshape(tail, [FEW, EACH]), 1)
    return result


@triton.jit
def total(head, tail, TAIL: tl.constexpr, EACH: tl.constexpr):
    """Sum over a row, int32."""
    return tl.sum(_folded(head.to(tl.int32), tail.to(tl.int32), TAIL, EACH), 0)


@triton.jit
def _pair(keys, lower, upper):
    """Counts of keys that reach `lower`, and of those that reach `upper` above them, in one sum."""
    return (keys >= lower).to(tl.int64) + ((keys >= upper).to(tl.int64) << 32)


@triton.jit
def _small_pair(keys, lower, upper):
    return (keys >= lower).to(tl.int32) + (keys >= upper).to(tl.int32) * 65536


@triton.jit
def reaching(head, tail, lower, upper, TAIL: tl.constexpr, EACH: tl.constexpr):
    """How many keys are at least `lower`, and at least `upper` (which is no smaller)."""
    if head.shape[0] + TAIL < 32768:
        both = total(_small_pair(head, lower, upper), _small_pair(tail, lower, upper), TAIL, EACH)
        some, fewer = both & 0xFFFF, both >> 16
    else:
        wide = tl.sum(_pair(head, lower, upper), 0)
        if TAIL > 0:
            wide += tl.sum(_pair(tail, lower, upper), 0)
        some, fewer = (wide & 0x7FFFFFFF).to(tl.int32), (wide >> 32).to(tl.int32)
    return some, fewer


@triton.jit
def largest(head, tail, TAIL: tl.constexpr):
    result = tl.max(head, 0)
    if TAIL > 0:
        result = tl.maximum(result, tl.max(tail, 0))
    return result


@triton.jit
def smallest(head, tail, TAIL: tl.constexpr):
    result = tl.min(head, 0)
    if TAIL > 0:
        result = tl.minimum(result, tl.min(tail, 0))
    return result


@triton.jit
def _tightened(head, tail, low, high, TAIL: tl.constexpr):
    """Both bounds moved onto keys that exist: a search among equal keys ends at once."""
    top = high - 1
    least = smallest(
        tl.where(head >= low, head, _HIGHEST), tl.where(tail >= low, tail, _HIGHEST), TAIL
    )
    most = largest(tl.where(head <= top, head, _LOWEST), tl.where(tail <= top, tail, _LOWEST), TAIL)
    return least, most + 1


@triton.jit
def find_bar(
    head,
    tail,
    k,
    low,
    reach_low,
    high,
    guess,
    width,
    slope,
    SNAP: tl.constexpr,
    TAIL: tl.constexpr,
    EACH: tl.constexpr,
):
    """The bar, how many keys equal to it are among the k largest where not all are (else 0), the
    distance of two keys there, and the passes made.

    `reach_low` keys, at least k, reach `low`, and fewer than k reach `high`; `high - low` fits in
    int32. All are int32 but `slope`, float32. Keys of floats of few bits lie `SNAP` apart: a pass
    aims at one of them, and where two are left the bounds are moved onto keys. Sums of bars and
    widths may wrap: bars are moved between the bounds before they are used.
    """
    reach_high = k * 0
    above, below, passes = k * 0, k * 0, k * 0
    stride = slope * 0.0 + 1.0
    lower, upper = guess - width, guess + width + 1
    while (low + 1 < high) & (reach_low != k):
        lower = tl.minimum(tl.maximum(lower, low + 1), high - 1)
        upper = tl.minimum(tl.maximum(upper, lower), high - 1)
        some, fewer = reaching(head, tail, lower, upper, TAIL, EACH)
        passes += 1
        up = fewer >= k
        down = some < k
        reach_low = tl.where(up, fewer, tl.where(down, reach_low, some))
        reach_high = tl.where(up, reach_high, tl.where(down, some, fewer))
        low = tl.where(up, upper, tl.where(down, low, lower))
        high = tl.where(up, high, tl.where(down, lower, upper))
        above = tl.where(down, above, 1)
        below = tl.where(up, below, 1)
        if (above & below) == 1:
            near = high - low <= 2 * SNAP
            if passes >= PATIENCE:
                near = near | ((passes & 3) == 2)
            if near & (reach_low != k) & (low + 3 < high):
                low, high = _tightened(head, tail, low, high, TAIL)
            inside = tl.maximum(reach_low - reach_high, 1).to(tl.float32)
            slope = (high - low).to(tl.float32) / inside
            middle = high - ((k - reach_high).to(tl.float32) * slope).to(tl.int32)
            spread = (0.25 * slope * tl.sqrt(inside)).to(tl.int32)
            spread = tl.maximum(spread, SNAP // 2)
            lower, upper = middle - spread, middle + spread + 1
            if near | (high - low <= 3):
                lower, upper = low + 1, high - 1
            elif (passes > PATIENCE) & ((passes & 1) == 0):
                third = (high - low) // 3
                lower, upper = low + third, high - third
        else:
            far = tl.where(above == 1, reach_low - k, k - reach_high).to(tl.float32)
            step = tl.minimum(tl.maximum(far * slope, 1.0) * stride, 5.0e8).to(tl.int32)
            stride *= 3.0
            lower = tl.where(above == 1, low + (step >> 1) + 1, high - 2 * step - 2)
            upper = tl.where(above == 1, low + 2 * step + 2, high - (step >> 1) - 1)
    some = k * 0
    if reach_low != k:
        if below == 0:
            reach_high, some = reaching(head, tail, high, high, TAIL, EACH)
        some = k - reach_high
    return low, some, slope, passes


@triton.jit
def places(first: tl.constexpr, COUNT: tl.constexpr, EACH: tl.constexpr):
    """Places of a block in a row, of which a thread holds `EACH` neighbours."""
    return first + tl.max_contiguous(tl.arange(0, COUNT), EACH)


@triton.jit
def words_of(bits):
    """A block of bools as int32 words: bit i % 32 of word i // 32 is place i."""
    COUNT: tl.constexpr = bits.shape[0] // 32
    few = tl.reshape(bits.to(tl.int32), [COUNT, 8, 4]) << tl.arange(0, 4)[None, None, :]
    return tl.sum(tl.sum(few, 2) << (4 * tl.arange(0, 8))[None, :], 1)


@triton.jit
def bits_of(words):
    """Words as int32 0 or 1 for each place."""
    SIZE: tl.constexpr = words.shape[0] * 32
    few = words[:, None] >> (4 * tl.arange(0, 8))[None, :]
    return tl.reshape((few[:, :, None] >> tl.arange(0, 4)[None, None, :]) & 1, [SIZE])


@triton.jit
def ranks(bits):
    """How many bits of a block are set up to each place."""
    COUNT: tl.constexpr = bits.shape[0] // 32
    few = tl.reshape(bits, [COUNT, 8, 4])
    of_few = tl.sum(few, 2)
    of_words = tl.sum(of_few, 1)
    before = tl.cumsum(of_words, 0) - of_words
    between = tl.cumsum(of_few, 1) - of_few + before[:, None]
    return tl.reshape(tl.cumsum(few, 2) + between[:, :, None], [COUNT * 32])


@triton.jit
def _first(words, some):
    """The first `some` of all bits that are set, and how many are set in the block.

    Sums of 2, 4, 8 and 16 neighbouring bits tell the place of the last bit kept in its word.
    """
    twos = words - ((words >> 1) & 0x55555555)
    fours = (twos & 0x33333333) + ((twos >> 2) & 0x33333333)
    eights = (fours + (fours >> 4)) & 0x0F0F0F0F
    halves = eights + (eights >> 8)
    ones = (halves + (halves >> 16)) & 0x3F
    upto = tl.cumsum(ones, 0)
    left = tl.maximum(some - (upto - ones), 0)
    rest = left
    place = words * 0
    count = halves & 0x1F
    past = rest >= count
    rest, place = tl.where(past, rest - count, rest), tl.where(past, 16, 0)
    count = (eights >> place) & 0xF
    past = rest >= count
    rest, place = tl.where(past, rest - count, rest), tl.where(past, place + 8, place)
    count = (fours >> place) & 0xF
    past = rest >= count
    rest, place = tl.where(past, rest - count, rest), tl.where(past, place + 4, place)
    count = (twos >> place) & 3
    past = rest >= count
    rest, place = tl.where(past, rest - count, rest), tl.where(past, place + 2, place)
    place = tl.where(rest >= ((words >> place) & 1), place + 1, place)
    return tl.where(ones <= left, words, words & ((1 << place) - 1)), tl.max(upto, 0)


@triton.jit
def at_least(head, tail, bar, some, TAIL: tl.constexpr):
    """Int32 rows of 0 and 1: keys that reach the bar; of those equal to it the first `some`, or all
    if 0."""
    of_head, of_tail = (head >= bar).to(tl.int32), (tail >= bar).to(tl.int32)
    if some > 0:
        kept, count = _first(words_of(head == bar), some)
        of_head = (head > bar).to(tl.int32) | bits_of(kept)
        if TAIL > 0:
            kept, count = _first(words_of(tail == bar), some - count)
            of_tail = (tail > bar).to(tl.int32) | bits_of(kept)
    return of_head, of_tail
