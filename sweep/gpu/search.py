"""The bar of the k largest keys of one row, found by counting inside one Triton program.

A row is held in two tensors, `head` and `tail`, for their sizes are powers of two and the number of
units is none: 17,920 units take 16,384 + 2,048 places, not 32,768. A program that needs no tail has
`TAIL` 0 and gives the head in its place. Keys are int32; places past the last unit hold a key below
all others. The search is that of `simulator.kernels.choose`: two bars a pass around a guess, closed
in by interpolation. Where it starts changes its length, never its result.
"""
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

PATIENCE = tl.constexpr(6)
"""Passes after which interpolation is no longer trusted alone."""
_HIGHEST = tl.constexpr(0x7FFFFFFF)
_LOWEST = tl.constexpr(-0x80000000)


@triton.jit
def total(head, tail, TAIL: tl.constexpr):
    """Sum over a row, int32."""
    result = tl.sum(head.to(tl.int32), 0)
    if TAIL > 0:
        result += tl.sum(tail.to(tl.int32), 0)
    return result


@triton.jit
def _pair(keys, lower, upper):
    """Counts of keys that reach `lower`, and of those that reach `upper` above them, in one sum."""
    return (keys >= lower).to(tl.int64) + ((keys >= upper).to(tl.int64) << 32)


@triton.jit
def _small_pair(keys, lower, upper):
    return tl.where(keys >= upper, 65537, tl.where(keys >= lower, 1, 0))


@triton.jit
def reaching(head, tail, lower, upper, TAIL: tl.constexpr):
    """How many keys are at least `lower`, and at least `upper` (which is no smaller)."""
    if head.shape[0] + TAIL < 32768:
        both = tl.sum(_small_pair(head, lower, upper), 0)
        if TAIL > 0:
            both += tl.sum(_small_pair(tail, lower, upper), 0)
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
    bottom, top = low.to(tl.int32), (high - 1).to(tl.int32)
    least = smallest(
        tl.where(head >= bottom, head, _HIGHEST), tl.where(tail >= bottom, tail, _HIGHEST), TAIL
    )
    most = largest(tl.where(head <= top, head, _LOWEST), tl.where(tail <= top, tail, _LOWEST), TAIL)
    return least.to(tl.int64), most.to(tl.int64) + 1


@triton.jit
def find_bar(head, tail, k, low, reach_low, high, guess, width, slope, snap, TAIL: tl.constexpr):
    """The bar, by how many more keys it is reached than by k (of keys equal to it), the distance
    of two keys there, and the passes made.

    `reach_low` keys, at least k, reach `low`, and fewer than k reach `high`. Bounds, guess and
    width are int64, counts int32, `slope` is float32. Within `snap` of each other, the bounds are
    moved onto keys.
    """
    reach_high = k * 0
    above, below, passes = k * 0, k * 0, k * 0
    stride = slope * 0.0 + 1.0
    lower, upper = guess - width, guess + width + 1
    while (high - low > 1) & (reach_low != k):
        lower = tl.minimum(tl.maximum(lower, low + 1), high - 1)
        upper = tl.minimum(tl.maximum(upper, lower), high - 1)
        some, fewer = reaching(head, tail, lower.to(tl.int32), upper.to(tl.int32), TAIL)
        passes += 1
        up = fewer >= k
        between = (some >= k) & (fewer < k)
        reach_low = tl.where(up, fewer, tl.where(between, some, reach_low))
        reach_high = tl.where(up, reach_high, tl.where(between, fewer, some))
        low = tl.where(up, upper, tl.where(between, lower, low))
        high = tl.where(up, high, tl.where(between, upper, lower))
        above = tl.where(up | between, 1, above)
        below = tl.where(up, below, 1)
        if (above == 1) & (below == 1):
            late = (passes >= PATIENCE) & (passes % 4 == 2)
            near = (high - low <= snap) | late
            if near & (reach_low != k):
                low, high = _tightened(head, tail, low, high, TAIL)
            inside = tl.maximum(reach_low - reach_high, 1).to(tl.float32)
            slope = (high - low).to(tl.float32) / inside
            middle = high - ((k - reach_high).to(tl.float32) * slope).to(tl.int64)
            spread = (0.25 * slope * tl.sqrt(inside)).to(tl.int64)
            third = (high - low) // 3
            by_thirds = (passes > PATIENCE) & (passes % 2 == 0)
            lower = tl.where(near, low + 1, tl.where(by_thirds, low + third, middle - spread))
            upper = tl.where(near, high - 1, tl.where(by_thirds, high - third, middle + spread + 1))
        else:
            far = tl.where(above == 1, reach_low - k, k - reach_high).to(tl.float32)
            step = tl.minimum(tl.maximum(far * slope, 1.0) * stride, 1.0e9).to(tl.int64)
            stride *= 3.0
            lower = tl.where(above == 1, low + step // 2 + 1, high - 2 * step - 2)
            upper = tl.where(above == 1, low + 2 * step + 2, high - step // 2 - 1)
    return low.to(tl.int32), reach_low - k, slope, passes


@triton.jit
def at_least(head, tail, bar, surplus, TAIL: tl.constexpr):
    """Bool rows: keys that reach the bar, but for the `surplus` last of those equal to it."""
    of_head, of_tail = head >= bar, tail >= bar
    if surplus > 0:
        equal = (head == bar).to(tl.int32)
        later = tl.cumsum(equal, 0, reverse=True)  # equal keys from here on to the end
        if TAIL > 0:
            equal_tail = (tail == bar).to(tl.int32)
            later += tl.sum(equal_tail, 0)
            later_tail = tl.cumsum(equal_tail, 0, reverse=True)
            of_tail = of_tail & ((equal_tail == 0) | (later_tail > surplus))
        of_head = of_head & ((equal == 0) | (later > surplus))
    return of_head, of_tail
