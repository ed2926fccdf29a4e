"""Bisection over the densities of a series: which one to try next, from what is known so far.

A series is one method with all its settings but the density. Its perplexity falls and its time
grows with the density, so the fastest point within a budget is the one of lowest density. Two
densities that enclose it are narrowed until they are neighbours. The first guesses come from the
curve of the loss, of the series itself or of one like it: about two tries where halving needs four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.search.early_stop import Verdict

GUESSES = 3
"""Tries that a curve may guide before plain halving takes over."""

Curve = Mapping[float, float]
"""Mean difference of the loss by density, for the densities that were tried."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """Places in a rising list of densities: all up to `outside` are out, all from `inside` in."""

    outside: int
    inside: int

    @property
    def closed(self) -> bool:
        return self.inside - self.outside == 1


def bracket(verdicts: Mapping[int, Verdict], count: int) -> Bracket:
    """What verdicts at some places enclose, of `count` places; -1 and `count` where nothing does.

    Where the order is broken, lower density inside and a higher one outside, the lower one counts:
    it is the faster.
    """
    inside = min((i for i, v in verdicts.items() if v == "inside"), default=count)
    outside = max((i for i, v in verdicts.items() if v == "outside" and i < inside), default=-1)
    return Bracket(outside, inside)


def next_place(
    between: Bracket,
    densities: Sequence[float],
    limit: float,
    curve: Curve,
    like: Curve,
    tries: int,
) -> int:
    """The next place to try strictly within a bracket that is not closed."""
    low, high = between.outside + 1, between.inside - 1
    crossing = crossing_density(limit, curve, like) if tries < GUESSES else None
    if crossing is None:
        return (low + high) // 2
    index = next((i for i, d in enumerate(densities) if d >= crossing - 1e-9), len(densities))
    return min(max(index, low), high)


def crossing_density(limit: float, curve: Curve, like: Curve) -> float | None:
    """Where the loss, a straight line in its logarithm, meets the limit; None if none is known, or
    if nothing may be lost."""
    if limit <= 0:
        return None
    points = _logs(curve)
    others = _logs(like)
    if not points:
        return _on_line(_nearest_two(others, limit), limit)
    if len(points) == 1:
        slope = _slope(_nearest_two(others, limit))
        return None if slope is None else _from_point(points[0], slope, limit)
    return _on_line(_nearest_two(points, limit), limit)


_Point = tuple[float, float]


def _logs(curve: Curve) -> list[_Point]:
    return [(density, math.log(mean)) for density, mean in sorted(curve.items()) if mean > 0]


def _nearest_two(points: Sequence[_Point], limit: float) -> list[_Point]:
    """The two points whose loss is nearest to the limit, by density."""
    by_distance = sorted(points, key=lambda point: (abs(point[1] - math.log(limit)), point[0]))
    return sorted(by_distance[:2])


def _slope(points: Sequence[_Point]) -> float | None:
    """Fall of the logarithm per density; None unless it falls."""
    if len(points) < 2:
        return None
    (d1, y1), (d2, y2) = points
    slope = (y2 - y1) / (d2 - d1)
    return slope if slope < 0 else None


def _on_line(points: Sequence[_Point], limit: float) -> float | None:
    slope = _slope(points)
    return None if slope is None else _from_point(points[0], slope, limit)


def _from_point(point: _Point, slope: float, limit: float) -> float:
    return point[0] + (math.log(limit) - point[1]) / slope
