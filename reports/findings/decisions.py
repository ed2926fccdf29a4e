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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reports.findings.budgets import Budget, parse_all
from reports.findings.certified import Certified
from reports.findings.costs import cost, is_measured, unmeasured, upper_end
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
    """The answer for one device setting and one budget; its cost is delta_ppl, or what else the
    budget is of.

    best          fastest measured point with cost <= limit, dense among them and none that
                  is not faster than dense; ties: lower cost, then the simplest cache policy,
                  plain before cache-aware, then key
    interpolated  throughput of the best point's series at the limit itself, never extrapolated
    runner_up     fastest qualifying point of any other series
    conservative  the certain choice: fastest point whose whole interval is within, its
                  `upper_end` <= limit; dense always is
    bound         fastest qualifying point among those that no device can run
    methods       the same for every series by itself (the layout of Tables 2, 6 and 7)
    unmeasured    no pruned point has what the budget is of, so nothing is decided
    waiting       points of the setting that a device can run and that are not measured yet
    certified     what is certain of it, where the run was to become certain
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
    unmeasured: bool = False
    waiting: int = 0
    certified: Certified | None = None

    @property
    def certainty(self) -> str:
        """Where the interval of the best point's cost lies: within the budget, beyond it, or
        unknown."""
        if self.best is None:
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
        if self.unmeasured:
            return unmeasured(self.budget)
        if self.best is None and not self._within:
            return f"No measured point is within {name}."
        if self.best is None:
            return f"{stay_sentence(name, self.waiting)}. It is no measured row of the run."
        if not self.best.dense:
            return ""
        if self.waiting:
            return f"{stay_sentence(name, self.waiting)}."
        if any(m.best for m in self.methods if m.best and not m.best.dense):
            return f"Ship dense: nothing within {name} is faster."
        return f"Ship dense: no pruned configuration is within {name}."


def stay_sentence(budget: str, waiting: int, where: str = "", of: str = "") -> str:
    """That dense is to be shipped, or that nothing better is measured yet; without a full stop."""
    at = f" {where}" if where else ""
    if not waiting:
        return f"Ship dense{of}: nothing within {budget} is faster{at}"
    points = "1 point is" if waiting == 1 else f"{waiting:,} points are"
    return f"Nothing measured{of} within {budget} is faster than dense{at}; {points} missing"


def decide(
    table: pa.Table | pd.DataFrame, budgets: Iterable[Budget | float | str] = ()
) -> list[Decision]:
    """Decisions of a results table, setting by setting and budget by budget in the given order.

    `budgets` are absolute (`0.2`), relative (`"5%"`), or of another figure (`"kl=0.02"`,
    `"joule=0.4"`, `"acc_mmlu=0.02"`). Failed and missing rows and rows without a figure are left
    out. Raises ReportError for a column that is absent or a budget that cannot be read.
    """
    return decide_points(points(rows(table)), parse_all(budgets))


def decide_points(candidates: Iterable[Point], budgets: Sequence[Budget]) -> list[Decision]:
    """`decide` for points and budgets that are parsed already."""
    decisions: list[Decision] = []
    for setting, members in by_setting(candidates).items():
        measured = (p for p in members if p.measured)
        usable = sorted(measured, key=lambda p: (p.policy_rank, p.cache_aware, p.point_key))
        ppl_dense = next((p.ppl_dense for p in members if math.isfinite(p.ppl_dense)), math.nan)
        waiting = sum(p.status == "missing" and not p.bound for p in members)
        for budget in budgets:
            one = _decision(setting, budget, budget.limit(ppl_dense), usable)
            decisions.append(replace(one, waiting=waiting))
    return decisions


def _decision(setting: Setting, budget: Budget, limit: float, usable: list[Point]) -> Decision:
    pruned = [p for p in usable if not p.dense]
    if pruned and not any(is_measured(p, budget) for p in pruned):
        return _undecided(setting, budget, limit, usable)
    real = [p for p in usable if not p.bound]
    worth = [p for p in real if p.dense or not p.gain <= 1]  # an unknown gain is no reproach
    best = _fastest_within(worth, limit, budget)
    others = [p for p in worth if best is not None and p.series != best.series]
    methods = tuple(_method(n, members, limit, budget) for n, members in by_series(real).items())
    return Decision(
        setting=setting,
        budget=budget,
        limit=limit,
        dense=next((p for p in real if p.dense), None),
        best=best,
        interpolated=next(
            (m.interpolated for m in methods if best and m.series == best.series), None
        ),
        runner_up=_fastest_within(others, limit, budget),
        conservative=fastest(worth, limit, [upper_end(p, budget) for p in worth]),
        bound=_fastest_within([p for p in usable if p.bound], limit, budget),
        methods=methods,
    )


def _undecided(setting: Setting, budget: Budget, limit: float, usable: list[Point]) -> Decision:
    """Where nothing has what the budget is of: the dense point alone would be a wrong answer."""
    real = [p for p in usable if not p.bound]
    return Decision(
        setting=setting,
        budget=budget,
        limit=limit,
        dense=next((p for p in real if p.dense), None),
        best=None,
        interpolated=None,
        runner_up=None,
        conservative=None,
        bound=None,
        methods=tuple(MethodResult(name, None, None) for name in by_series(real)),
        unmeasured=True,
    )


def _method(name: str, members: list[Point], limit: float, budget: Budget) -> MethodResult:
    best = _fastest_within(members, limit, budget)
    return MethodResult(name, best, interpolated_at(members, limit, budget))


def _fastest_within(members: Sequence[Point], limit: float, budget: Budget) -> Point | None:
    return fastest(members, limit, [cost(p, budget) for p in members])


def fastest(members: Sequence[Point], limit: float, costs: Sequence[float] = ()) -> Point | None:
    """The point of highest throughput with cost within `limit`; cost is delta_ppl by default."""
    costs = costs or [p.delta_ppl for p in members]
    index = best_within(costs, [p.tokens_per_s for p in members], limit)
    return None if index is None else members[index]


def frontier_of(members: Sequence[Point], budget: Budget | None = None) -> list[Point]:
    """The Pareto frontier of (delta_ppl, tokens_per_s), or of (kl, tokens_per_s) for a budget of
    KL, by increasing cost."""
    costs = [cost(p, budget) for p in members]
    return [members[i] for i in pareto(costs, [p.tokens_per_s for p in members])]


def interpolated_at(
    members: Sequence[Point], limit: float, budget: Budget | None = None
) -> Interpolated | None:
    """Throughput at `limit` on the frontier of `members`; None outside the frontier's range."""
    line = frontier_of(members, budget)
    costs = [cost(p, budget) for p in line]
    pair = neighbours(costs, limit)
    value = interpolate(costs, [p.tokens_per_s for p in line], limit)
    if pair is None or value is None:
        return None
    return Interpolated(value, line[pair[0]], line[pair[1]])
