"""What a budget allows, as searches look at it: a bound on the mean over windows of what is lost.

A budget of perplexity bounds the mean difference of losses to the dense run (`early_stop`); one of
KL bounds the mean KL to the dense model, which the same forward passes measure where a sweep has
`distances: true`. Either is a number for each window, in pairs with the dense run, so intervals,
verdicts and stopping early are the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.findings.budgets import KL, PPL, Budget
from sweep.errors import InputError
from sweep.plan.plan import PlannedPoint
from sweep.search.early_stop import Floats, differences, limit_of_mean
from sweep.spec.entries import Sweep
from sweep.spec.spaces import LAM, QUANT
from sweep.spec.studies import StudyEntry
from sweep.store.store import Store

KINDS = (PPL, KL)
"""What windows tell of, and so what a search can keep."""
_LEAST = 0.01
"""Of the loss that a budget allows: less than it is as good as none."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget of perplexity or KL, given the perplexity of the dense run."""

    budget: Budget
    ppl: float

    @property
    def column(self) -> str:
        """The column that it bounds, which is the name of the constraint too."""
        return column_of(self.budget)

    @property
    def most(self) -> float:
        """The largest value of that column."""
        return self.budget.limit(self.ppl)

    @property
    def mean(self) -> float:
        """The bound on the mean over windows of what a token loses, in nats."""
        return self.most if self.budget.of == KL else limit_of_mean(self.most, self.ppl)

    def beyond(self, value: float) -> float:
        """How far a value of the column is beyond the budget, at most 0 where it is within."""
        return value - self.most

    def log_beyond(self, value: float) -> float:
        """The same as the logarithm of the ratio of mean losses, which is nearly a straight line in
        the density; the plain difference where nothing may be lost."""
        if not self.mean > 0:
            return self.beyond(value)
        least = _LEAST * self.mean
        return math.log(max(self._lost(value), least) / self.mean)

    def _lost(self, value: float) -> float:
        if self.budget.of == KL:
            return value
        return math.log1p(value / self.ppl) if value > -self.ppl else -math.inf


def column_of(budget: Budget) -> str:
    """The column of the table that a budget of perplexity or KL bounds."""
    return "kl" if budget.of == KL else "delta_ppl"


def lost_by_window(store: Store, planned: PlannedPoint, of: str = PPL) -> Floats:
    """What a token of each window loses, [windows], in nats: of `ppl` the loss minus that of the
    dense run, of `kl` the KL to the dense model. Every task of the point must be done."""
    sparse = [store.records[key].result for key in planned.evaluate_keys]
    dense = [store.records[key].result for key in planned.dense_keys]
    predicted = _values(sparse, "predicted")
    if of == PPL:
        return differences(_values(sparse, "nll"), _values(dense, "nll"), predicted)
    if planned.evaluate_keys == planned.dense_keys:
        return np.zeros(len(predicted))
    return np.asarray(_values(sparse, "kl"), dtype=np.float64) / np.asarray(predicted)


def _values(results: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    return [value for result in results for value in result[name]]


def measuring(sweep: Sweep, budgets: Iterable[Budget]) -> Sweep:
    """The sweep with what these budgets are held against: KL is measured only where asked for."""
    needs = any(budget.of == KL for budget in budgets)
    return sweep.model_copy(update={"distances": True}) if needs else sweep


def measured(sweep: Sweep, entry: StudyEntry, where: str) -> Sweep:
    """The sweep with what a study is after. Raises InputError where KL cannot be measured."""
    objective = entry.objective
    budgets = [] if objective.within is None else [Budget.parse(objective.within)]
    if "kl" in objective.metrics:
        budgets.append(Budget(0, of=KL))
    fixed = set(entry.method.parameters)
    if any(budget.of == KL for budget in budgets):
        check_kl({*entry.search, *fixed}, where)
    return measuring(sweep, budgets)


def check_kl(searched: Collection[str], where: str) -> None:
    """Raise InputError where KL to the dense model is not measured for what is searched."""
    if LAM in searched:
        raise InputError(f"{where}: KL is not measured at a price of reads; leave out lam")
    weights = next((key for key in QUANT if key in searched), None)
    if weights:
        raise InputError(
            f"{where}: KL is to the dense model of the same weights, so it cannot tell which"
            f" {weights} to choose; take a budget of perplexity, or one {weights} alone"
        )


def surely_within(row: Mapping[str, Any], budget: Budget) -> bool:
    """Whether the whole 95 % interval of a row is within the budget."""
    if budget.relative:
        high, most = row.get("ppl_ratio_high"), 1 + budget.amount
    else:
        high, most = row.get(f"{column_of(budget)}_high"), budget.amount
    return high is not None and high <= most


def ends_of(row: Mapping[str, Any], budget: Budget) -> tuple[float, float]:
    """The 95 % interval of what the budget bounds; NaN where it is not known."""
    named = (row.get(f"{column_of(budget)}_{end}") for end in ("low", "high"))
    low, high = (math.nan if end is None else end for end in named)
    return low, high
