"""What a budget limits, as figures of a point: ΔPPL or KL, with the interval and in words."""

from __future__ import annotations

import math

from reports.findings.budgets import KL, Budget
from reports.findings.points import Point
from reports.numbers import ABSENT, figure, percent, signed

UNMEASURED = (
    "KL was not measured, so nothing can be held against it: set `distances: true` in the sweep and"
    " run it again."
)


def cost(point: Point, budget: Budget | None = None) -> float:
    """ΔPPL, or under a budget of KL the KL, of which dense has none; NaN where unknown."""
    if budget is None or budget.of != KL:
        return point.delta_ppl
    return 0.0 if point.dense else point.kl


def ends(point: Point, budget: Budget | None = None) -> tuple[float, float]:
    """The 95 % interval of `cost`; NaN where unknown."""
    if budget is None or budget.of != KL:
        return point.delta_ppl_low, point.delta_ppl_high
    return (0.0, 0.0) if point.dense else (point.kl_low, point.kl_high)


def upper_end(point: Point, budget: Budget) -> float:
    """The upper end of the interval of the cost, as the budget is held to it; NaN where unknown.

    Within a share of the dense perplexity, how sure that is does not count.
    """
    if point.dense:
        return cost(point, budget)
    if budget.relative and math.isfinite(point.ppl_ratio_high):
        return point.ppl_dense * (point.ppl_ratio_high - 1)
    return ends(point, budget)[1]


def measured_kl(point: Point) -> bool:
    """Whether a pruned point has a distance to the dense model."""
    return not point.dense and math.isfinite(point.kl)


# -- in words --------------------------------------------------------------------------------


def cost_name(budget: Budget | None = None) -> str:
    """`ΔPPL` or `KL`."""
    return "KL" if budget is not None and budget.of == KL else "ΔPPL"


def written(value: float, budget: Budget | None = None) -> str:
    """A cost: ΔPPL with its sign, KL without."""
    return figure(value) if budget is not None and budget.of == KL else signed(value)


def interval(point: Point, budget: Budget | None = None) -> str:
    """Interval of the cost as `[+0.12, +0.20]`; empty for dense and where either end is unknown."""
    pair = ends(point, budget)
    if point.dense or not all(map(math.isfinite, pair)):
        return ""
    return f"[{written(pair[0], budget)}, {written(pair[1], budget)}]"


def cost_text(point: Point, budget: Budget | None = None) -> str:
    """The cost with its interval, as `+0.150 [+0.12, +0.20]`."""
    return f"{written(cost(point, budget), budget)} {interval(point, budget)}".strip()


def kl_text(point: Point) -> str:
    """`0.0134 [0.0120, 0.0148]` nats; a dash where it was not measured."""
    if not math.isfinite(point.kl):
        return ABSENT
    return cost_text(point, Budget(0.0, of=KL)) if not point.dense else "0"


def flips_text(point: Point) -> str:
    """`2.1 % [1.8 %, 2.4 %]`; a dash where it was not measured."""
    if not math.isfinite(point.flip_rate):
        return ABSENT
    low, high = point.flip_rate_low, point.flip_rate_high
    if point.dense or not (math.isfinite(low) and math.isfinite(high)):
        return percent(point.flip_rate)
    return f"{percent(point.flip_rate)} [{percent(low)}, {percent(high)}]"
