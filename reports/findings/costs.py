"""What a budget limits, as figures of a point: ΔPPL or another, with its interval and in words."""

from __future__ import annotations

import math

from reports.findings.budgets import JOULE, KL, PPL, Budget
from reports.findings.points import Point
from reports.numbers import ABSENT, figure, percent, signed

UNMEASURED = (
    "KL was not measured, so nothing can be held against it: set `distances: true` in the sweep and"
    " run it again."
)
_NO_JOULES = "No device of the run says what a byte takes, so energy is not known."
SURE = 1.96
"""Standard errors of half an interval of 95 % of an accuracy."""


def unmeasured(budget: Budget) -> str:
    """What to say where nothing has what the budget is of."""
    if budget.of == JOULE:
        return _NO_JOULES
    if budget.of == KL:
        return UNMEASURED
    return f"{budget.of} was not measured, so nothing can be held against it."


def cost(point: Point, budget: Budget | None = None) -> float:
    """What the budget limits: ΔPPL; or KL or accuracy lost, of which dense has none; or joules, in
    the middle of what they may be. NaN where unknown."""
    if budget is None or budget.of == PPL:
        return point.delta_ppl
    if budget.of == JOULE:
        return (point.energy_j_low + point.energy_j_high) / 2
    if point.dense:
        return 0.0
    return point.kl if budget.of == KL else _lost(point, budget)[0]


def ends(point: Point, budget: Budget | None = None) -> tuple[float, float]:
    """The 95 % interval of `cost`, of joules the least and the most; NaN where unknown."""
    if budget is None or budget.of == PPL:
        return point.delta_ppl_low, point.delta_ppl_high
    if budget.of == JOULE:
        return point.energy_j_low, point.energy_j_high
    if point.dense:
        return 0.0, 0.0
    if budget.of == KL:
        return point.kl_low, point.kl_high
    lost, error = _lost(point, budget)
    return lost - SURE * error, lost + SURE * error


def _lost(point: Point, budget: Budget) -> tuple[float, float]:
    """Accuracy that is lost, and its standard error."""
    every = {task: (lost, error) for task, lost, error in point.lost_accuracy}
    return every.get(budget.of, (math.nan, math.nan))


def upper_end(point: Point, budget: Budget) -> float:
    """The upper end of the interval of the cost, as the budget is held to it; NaN where unknown.

    Within a share of the dense perplexity, how sure that is does not count.
    """
    if point.dense and budget.of != JOULE:
        return cost(point, budget)
    if budget.relative and math.isfinite(point.ppl_ratio_high):
        return point.ppl_dense * (point.ppl_ratio_high - 1)
    return ends(point, budget)[1]


def is_measured(point: Point, budget: Budget) -> bool:
    """Whether a point has what the budget is of."""
    return budget.of == PPL or math.isfinite(cost(point, budget))


def measured_kl(point: Point) -> bool:
    """Whether a pruned point has a distance to the dense model."""
    return not point.dense and math.isfinite(point.kl)


# -- in words --------------------------------------------------------------------------------


def cost_name(budget: Budget | None = None) -> str:
    """`ΔPPL`, `KL`, `joules` or `loss of acc_mmlu`."""
    of = PPL if budget is None else budget.of
    return {PPL: "ΔPPL", KL: "KL", JOULE: "joules"}.get(of, f"loss of {of}")


def written(value: float, budget: Budget | None = None) -> str:
    """A cost: KL and joules without a sign, others with it."""
    return figure(value) if budget is not None and budget.of in (KL, JOULE) else signed(value)


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
