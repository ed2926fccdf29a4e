"""Pareto frontiers, and what they give within a budget.

A frontier is a list of indices into two equally long sequences: `costs`, where less is better, and
`values`, where more is better. NaN in either takes an entry out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the entries that no other is at least as good as on both, by increasing cost.

    Of entries that are equal on both the first stands for all, so costs and values both rise
    strictly along the result.
    """
    usable = [i for i in range(len(costs)) if _finite(costs[i], values[i])]
    usable.sort(key=lambda i: (costs[i], -values[i], i))
    frontier: list[int] = []
    for i in usable:
        if not frontier or values[i] > values[frontier[-1]]:
            frontier.append(i)
    return frontier


def best_within(costs: Sequence[float], values: Sequence[float], limit: float) -> int | None:
    """Index of the highest value whose cost is at most `limit`; None when there is none.

    Ties go to the lower cost, then to the earlier entry.
    """
    usable = [i for i in range(len(costs)) if _finite(costs[i], values[i]) and costs[i] <= limit]
    return min(usable, key=lambda i: (-values[i], costs[i], i), default=None)


def neighbours(costs: Sequence[float], at: float) -> tuple[int, int] | None:
    """Positions of the two strictly increasing `costs` that enclose `at`; None outside of them.

    Both positions are the same where `at` is one of the costs.
    """
    if not costs or not costs[0] <= at <= costs[-1]:
        return None
    right = bisect_left(costs, at)
    return (right, right) if costs[right] == at else (right - 1, right)


def interpolate(costs: Sequence[float], values: Sequence[float], at: float) -> float | None:
    """Value at cost `at` on the straight line between the two enclosing entries.

    `costs` must rise strictly. None outside of their range: nothing is extrapolated. The result
    lies between its two neighbours' values, rounding included.
    """
    pair = neighbours(costs, at)
    if pair is None:
        return None
    left, right = pair
    if left == right:
        return values[left]
    share = (at - costs[left]) / (costs[right] - costs[left])
    value = values[left] + share * (values[right] - values[left])
    low, high = sorted((values[left], values[right]))
    return min(max(value, low), high)


def _finite(*numbers: float) -> bool:
    return all(math.isfinite(number) for number in numbers)
