"""What each item gives up so that a total is met at the least loss, by Lagrange multiplier.

An item can have several options, each with a cost (weights, or bytes that are read) and a loss that
are its own; losses add up. At one multiplier, the same for all items, each takes the option that
makes loss + multiplier · cost least, which lies on the lower convex hull of its options. So items
give up cost in the order of what a byte less costs, from the hull, until the total is met; the last
one that gives up does so in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Step:
    """An edge of an item's hull: `cost` given up for `loss`."""

    item: int
    cost: float
    loss: float

    @property
    def slope(self) -> float:
        """Loss for each cost given up."""
        return self.loss / self.cost


def steps_of(item: int, costs: NDArray[np.float64], losses: NDArray[np.float64]) -> list[Step]:
    """Edges of the lower hull of an item's options, the dearest option first; slopes never fall.

    What measured losses fall by where less is kept, and costs rise, counts as nothing.
    """
    falling = np.minimum.accumulate(costs)
    rising = np.maximum.accumulate(np.maximum(losses - losses[0], 0.0))
    hull: list[Step] = []
    for cost, loss in zip(-np.diff(falling), np.diff(rising), strict=True):
        hull.append(Step(item, float(cost), float(loss)))
        while len(hull) > 1 and not _rises(hull[-2], hull[-1]):
            last, before = hull.pop(), hull.pop()
            hull.append(Step(item, before.cost + last.cost, before.loss + last.loss))
    return [step for step in hull if step.cost > 0]


def _rises(before: Step, after: Step) -> bool:
    """Whether the slope does not fall from one edge to the next, where nothing is given up too."""
    return before.loss * after.cost <= after.loss * before.cost and before.cost > 0


def kept_costs(
    costs: NDArray[np.float64],
    losses: NDArray[np.float64],
    most_cost: float = 0.0,
    most_loss: float = np.inf,
) -> NDArray[np.float64]:
    """Cost that each item keeps [items], from options [items, options], the dearest first.

    Items give up cost until the total is at most `most_cost`, or before the sum of their losses is
    above `most_loss`.
    """
    kept = costs[:, 0].astype(np.float64).copy()
    hulls = [steps_of(item, costs[item], losses[item]) for item in range(len(costs))]
    to_give, may_lose = float(kept.sum()) - most_cost, most_loss
    for step in sorted(_all(hulls), key=lambda step: (step.slope, step.item)):
        if to_give <= 0 or may_lose <= 0:
            break
        part = min(1.0, to_give / step.cost, may_lose / step.loss if step.loss > 0 else 1.0)
        kept[step.item] -= part * step.cost
        to_give -= part * step.cost
        may_lose -= part * step.loss
    return kept


def _all(hulls: Sequence[Sequence[Step]]) -> list[Step]:
    """Edges of all items; sorting keeps those of one item in order, as slopes never fall."""
    return [step for hull in hulls for step in hull]


def at_cost(
    costs: NDArray[np.float64], values: NDArray[np.float64], kept: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A value of each item [items], as its share, at the cost that it keeps, in proportion between
    two of its options [items, options]."""
    falling = np.minimum.accumulate(costs, axis=1)
    pairs = zip(falling, values, kept, strict=True)
    return np.array([np.interp(own, cost[::-1], value[::-1]) for cost, value, own in pairs])
