"""Which configuration to ship: the fastest within each perplexity budget, for each device setting.

Configurations that need to know the future (an offline cache policy, an oracle mask) cannot be
shipped. They never win; the fastest of them is kept beside the decision as a bound.
"""

# pyarrow and pandas bring no types, so what comes from them is unknown to a strict checker.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.findings.budgets import Budget, parse_all
from reports.findings.frontier import best_within, interpolate, neighbours, pareto
from reports.findings.points import Point, Setting, by_series, by_setting, points
from reports.results import rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Throughput at exactly the budget, between two measured points of one series' frontier."""

    tokens_per_s: float
    below: Point
    above: Point


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one series reaches within one budget; None where none of its points qualifies."""

    series: str
    best: Point | None
    interpolated: Interpolated | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one device setting and one budget.

    best          fastest measured point with delta_ppl <= limit, dense among them and none that
                  is not faster than dense; ties: lower delta_ppl, then the simplest cache policy,
                  plain before cache-aware, then key
    interpolated  throughput of the best point's series at the limit itself, never extrapolated
    runner_up     fastest qualifying point of any other series
    conservative  the certain choice: fastest point whose whole interval is within, its
                  `upper_end` <= limit; dense always is
    bound         fastest qualifying point among those that no device can run
    methods       the same for every series by itself (the layout of Tables 2, 6 and 7)
    """

    setting: Setting
    budget: Budget
    limit: float
    dense: Point | None
    best: Point | None
    interpolated: Interpolated | None
    runner_up: Point | None
    conservative: Point | None
    bound: Point | None
    methods: tuple[MethodResult, ...]

    @property
    def certainty(self) -> str:
        """Where the best point's ΔPPL interval lies: within the budget, beyond it, or unknown."""
        if self.best is None or self.best.dense:
            return "within"
        end = upper_end(self.best, self.budget)
        if not math.isfinite(end):
            return "unknown"
        return "within" if end <= self.limit else "beyond"

    @property
    def is_dense(self) -> bool:
        """Whether nothing within the budget is faster than dense, a row of the run or not."""
        return self.best.dense if self.best is not None else self._within

    @property
    def _within(self) -> bool:
        """Whether any measured point is within the budget, however slow."""
        return any(m.best is not None for m in self.methods)

    @property
    def message(self) -> str:
        """One sentence about a decision that needs words; empty where a faster point is found."""
        name = self.budget.label
        if self.best is None and not self._within:
            return f"No measured point is within {name}."
        if self.best is None:
            return f"Ship dense: nothing within {name} is faster. It is no measured row of the run."
        if not self.best.dense:
            return ""
        if any(m.best for m in self.methods if m.best and not m.best.dense):
            return f"Ship dense: nothing within {name} is faster."
        return f"Ship dense: no pruned configuration is within {name}."


def decide(
    table: pa.Table | pd.DataFrame, budgets: Iterable[Budget | float | str] = ()
) -> list[Decision]:
    """Decisions of a results table, setting by setting and budget by budget in the given order.

    `budgets` are absolute (`0.2`) or relative (`"5%"`). Failed and missing rows and rows without
    a figure are left out. Raises ReportError for a column that is absent or a budget that cannot
    be read.
    """
    return decide_points(points(rows(table)), parse_all(budgets))


def decide_points(candidates: Iterable[Point], budgets: Sequence[Budget]) -> list[Decision]:
    """`decide` for points and budgets that are parsed already."""
    decisions: list[Decision] = []
    for setting, members in by_setting(candidates).items():
        measured = (p for p in members if p.measured)
        usable = sorted(measured, key=lambda p: (p.policy_rank, p.cache_aware, p.point_key))
        ppl_dense = next((p.ppl_dense for p in members if math.isfinite(p.ppl_dense)), math.nan)
        decisions += [_decision(setting, b, b.limit(ppl_dense), usable) for b in budgets]
    return decisions


def _decision(setting: Setting, budget: Budget, limit: float, usable: list[Point]) -> Decision:
    real = [p for p in usable if not p.bound]
    worth = [p for p in real if p.dense or not p.gain <= 1]  # an unknown gain is no reproach
    best = fastest(worth, limit)
    others = [p for p in worth if best is not None and p.series != best.series]
    methods = tuple(_method(name, members, limit) for name, members in by_series(real).items())
    return Decision(
        setting=setting,
        budget=budget,
        limit=limit,
        dense=next((p for p in real if p.dense), None),
        best=best,
        interpolated=next(
            (m.interpolated for m in methods if best and m.series == best.series), None
        ),
        runner_up=fastest(others, limit),
        conservative=fastest(worth, limit, [upper_end(p, budget) for p in worth]),
        bound=fastest([p for p in usable if p.bound], limit),
        methods=methods,
    )


def upper_end(point: Point, budget: Budget) -> float:
    """The upper end of the interval of ΔPPL, as the budget is held to it; NaN where unknown.

    Within a share of the dense perplexity, how sure that is does not count.
    """
    if point.dense:
        return point.delta_ppl
    if budget.relative and math.isfinite(point.ppl_ratio_high):
        return point.ppl_dense * (point.ppl_ratio_high - 1)
    return point.delta_ppl_high


def _method(name: str, members: list[Point], limit: float) -> MethodResult:
    return MethodResult(name, fastest(members, limit), interpolated_at(members, limit))


def fastest(members: Sequence[Point], limit: float, costs: Sequence[float] = ()) -> Point | None:
    """The point of highest throughput with cost within `limit`; cost is delta_ppl by default."""
    costs = costs or [p.delta_ppl for p in members]
    index = best_within(costs, [p.tokens_per_s for p in members], limit)
    return None if index is None else members[index]


def frontier_of(members: Sequence[Point]) -> list[Point]:
    """The Pareto frontier of (delta_ppl, tokens_per_s), by increasing delta_ppl."""
    indices = pareto([p.delta_ppl for p in members], [p.tokens_per_s for p in members])
    return [members[i] for i in indices]


def interpolated_at(members: Sequence[Point], limit: float) -> Interpolated | None:
    """Throughput at `limit` on the frontier of `members`; None outside the frontier's range."""
    line = frontier_of(members)
    costs = [p.delta_ppl for p in line]
    pair = neighbours(costs, limit)
    value = interpolate(costs, [p.tokens_per_s for p in line], limit)
    if pair is None or value is None:
        return None
    return Interpolated(value, line[pair[0]], line[pair[1]])
