"""The fastest point within a budget without evaluating the grid (`sweep best NAME --search`).

Each series of the grid, a method with all its settings but the density, is bisected over its
densities. A point is evaluated shard by shard until what it loses in pairs with the dense run, in
perplexity or in KL, puts it clearly inside or outside of the budget (`limits`). What wins is
measured on all windows; should it prove to be outside, the search goes on. The windows are a sample
of the text all the same: an answer comes with the interval of the table, and is sure only where all
of that is within the budget. Tasks and keys are those of the grid: what is known costs nothing, and
what is found here is known to the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from reports.findings.budgets import Budget
from sweep.errors import SweepError
from sweep.execution.session import Session
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan, PlannedPoint, only, shards
from sweep.results.facts import is_bound
from sweep.results.perplexity import Losses
from sweep.results.rows import rows_of
from sweep.search.brackets import Bracket, bracket, next_place
from sweep.search.density_series import (
    Evaluation,
    Found,
    Place,
    Series,
    evaluated_tokens,
    mates_of,
    series_of,
)
from sweep.search.early_stop import Floats, Noise, Verdict, interval, rungs, verdict
from sweep.search.limits import Limit, ends_of, lost_by_window, surely_within


class Bisection:
    """Bisects all series of a plan for some budgets.

    `screening`, if given, is the plan of the same points, in the same order, in a faster number
    format: it decides where to look, and what wins is measured in the plan's own.
    """

    def __init__(
        self,
        session: Session,
        plan: Plan,
        materials: Materials,
        budgets: Iterable[Budget],
        screening: Plan | None = None,
    ) -> None:
        self.session, self.plan, self.materials = session, plan, materials
        self.screening = screening or plan
        self.budgets = tuple(budgets)
        self.series = list(series_of(self.screening.points))
        self.dense = [p for p in self.screening.points if p.point.method == "dense"]
        self.left_out = sum(is_bound(p.point) for p in plan.points)
        self.asked: dict[str, int] = {}
        """Tokens of every evaluation that the search needed, by key."""
        self._exact = dict(zip(self.screening.points, plan.points, strict=True))
        self._mates = mates_of(self.screening.points)
        self._known: dict[tuple[str, ...], Evaluation] = {}
        self._final: dict[PlannedPoint, Evaluation] = {}
        self._ppl: dict[tuple[str, ...], float] = {}
        self._noise: dict[tuple[tuple[str, ...], str], Noise] = {}
        """Of all evaluations against one dense run, by what budgets are of."""
        self._rows: dict[PlannedPoint, dict[str, Any]] = {}

    def run(self) -> list[Found]:
        """What each series reaches within each budget; the best of each setting is measured."""
        self._run_dense()
        for wave in sorted({series.wave for series in self.series}):
            self._narrow([s for s in self.series if s.wave <= wave])
        while True:
            winners = self._winners()
            unsure = [p for p in dict.fromkeys(winners.values()) if p not in self._final]
            if not unsure:
                return self._answers(winners)
            self._measure(unsure)
            self._narrow(self.series)

    def exact_points(self) -> list[PlannedPoint]:
        """The points of all series, in the plan's own number format."""
        return [self._exact[planned] for series in self.series for planned in series.points]

    # -- dense runs --------------------------------------------------------------------------

    def _run_dense(self) -> None:
        """All dense runs, whole: every difference is to them."""
        bases = {s.points[0].dense_keys: s.points[0] for s in self.series}
        parts = [replace(p, evaluate_keys=p.dense_keys, simulate_keys=()) for p in bases.values()]
        parts += self.dense
        self._execute(self.screening, parts)
        for keys in bases:
            records = [self.session.store.done(key) for key in keys]
            if not all(records):
                raise SweepError("a dense run failed; `sweep logs` shows why")
            results = [record.result for record in records if record is not None]
            nll = np.array([x for result in results for x in result["nll"]])
            predicted = np.array([x for result in results for x in result["predicted"]])
            self._ppl[keys] = Losses(nll, predicted).perplexity
            self._noise |= {(keys, of): Noise() for of in self.kinds}

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the budgets are of."""
        return tuple(dict.fromkeys(budget.of for budget in self.budgets))

    def limit(self, series: Series, budget: Budget) -> float:
        """The bound on the mean over windows that the budget is for a series."""
        return Limit(budget, self._ppl[series.points[0].dense_keys]).mean

    # -- bisection ---------------------------------------------------------------------------

    def _narrow(self, series: list[Series]) -> None:
        """Evaluate, all series together, until every bracket is closed."""
        while True:
            shards_of = {p: n for s in series for p, n in self._wanted(s)}
            if not shards_of:
                return
            self._say(series)
            self._execute(self.screening, self._with_mates(shards_of))
            for planned, count in shards_of.items():
                self._learn(planned, count)

    def _say(self, series: list[Series]) -> None:
        pairs = [(s, budget) for s in series for budget in self.budgets]
        left = sum(not self._bracket(*pair).closed for pair in pairs)
        ran = self.session.ran
        self.session.console.print(
            f"{left} of {len(pairs)} answers open, {ran['tokens']:,} tokens evaluated"
        )

    def _wanted(self, series: Series) -> Iterator[tuple[PlannedPoint, int]]:
        """The next point of each budget, and up to which shard it is wanted."""
        for budget in self.budgets:
            open_bracket = self._bracket(series, budget)
            if open_bracket.closed:
                continue
            tried = series.tries.setdefault(budget, set())
            index = self._next(series, budget, open_bracket, len(tried))
            tried.add(index)
            planned = series.points[index]
            done = self._evaluation(planned).shards
            yield planned, next(n for n in rungs(len(planned.evaluate_keys)) if n > done)

    def _next(self, series: Series, budget: Budget, open_bracket: Bracket, tries: int) -> int:
        """A point that has begun and is still open, or a new one."""
        started = [
            i
            for i in range(open_bracket.outside + 1, open_bracket.inside)
            if self._begun(series, i)
        ]
        if started:
            return started[0]
        limit = self.limit(series, budget)
        curve, like = self._curve(series, budget.of), self._like(series, budget.of)
        return next_place(open_bracket, series.densities, limit, curve, like, tries)

    def _begun(self, series: Series, index: int) -> bool:
        return self._evaluation(series.points[index]).shards > 0

    def _bracket(self, series: Series, budget: Budget) -> Bracket:
        verdicts: dict[int, Verdict] = {}
        for index in range(len(series.points)):
            verdicts[index] = self._verdict(series, index, budget)
        return bracket(verdicts, len(series.points))

    def _verdict(self, series: Series, index: int, budget: Budget) -> Verdict:
        planned = series.points[index]
        limit = self.limit(series, budget)
        evaluation = self._final.get(planned) or self._evaluation(planned)
        if evaluation.failed:
            return "outside"
        if not evaluation.shards:
            return "open"
        if evaluation.shards == len(planned.evaluate_keys):
            mean = evaluation.mean(budget.of)
            return verdict(mean, mean, limit)
        total = sum(self._windows(key) for key in planned.dense_keys)
        noise = self._noise[planned.dense_keys, budget.of]
        return verdict(*interval(evaluation.lost[budget.of], total, limit, noise), limit)

    def _windows(self, key: str) -> int:
        return len(self.session.store.records[key].result["nll"])

    def _curve(self, series: Series, of: str) -> dict[float, float]:
        evaluations = ((p.point.density, self._evaluation(p)) for p in series.points)
        return {density: e.mean(of) for density, e in evaluations if e.shards and not e.failed}

    def _like(self, series: Series, of: str) -> dict[float, float]:
        """The curve of the series most like this one: the nearest γ that has two points."""
        others = [s for s in self.series if s.family == series.family and s is not series]
        others.sort(key=lambda other: abs(other.point.gamma - series.point.gamma))
        curves = (self._curve(other, of) for other in others)
        return next((curve for curve in curves if len(curve) > 1), {})

    def _evaluation(self, planned: PlannedPoint) -> Evaluation:
        return self._known.setdefault(planned.evaluate_keys, Evaluation())

    def _learn(self, planned: PlannedPoint, count: int) -> None:
        evaluation = self._evaluation(planned)
        if evaluation.shards >= count:
            return
        evaluation.shards, part = count, shards(planned, count)
        if any(self.session.store.done(key) is None for key in part.keys):
            evaluation.failed = "a task failed"
            return
        evaluation.lost = self._lost(part)
        for of in self.kinds:
            self._relearn(planned.dense_keys, of)

    def _lost(self, planned: PlannedPoint) -> dict[str, Floats]:
        return {of: lost_by_window(self.session.store, planned, of) for of in self.kinds}

    def _relearn(self, dense: tuple[str, ...], of: str) -> None:
        """The noise that all evaluations against one dense run show."""
        floor = min(Limit(b, self._ppl[dense]).mean for b in self.budgets if b.of == of)
        noise = Noise()
        for planned in {p.evaluate_keys: p for s in self.series for p in s.points}.values():
            evaluation = self._evaluation(planned)
            if planned.dense_keys == dense and evaluation.shards and not evaluation.failed:
                noise.add(evaluation.lost[of], floor)
        self._noise[dense, of] = noise

    # -- what wins ---------------------------------------------------------------------------

    def _winners(self) -> dict[Place, PlannedPoint]:
        """The fastest point of each setting within each budget, as far as is known.

        None where the dense model is faster than all of them.
        """
        best: dict[Place, tuple[float, PlannedPoint]] = {}
        for series in self.series:
            for budget in self.budgets:
                planned = self._candidate(series, budget)
                if planned is None:
                    continue
                row, key = self._row(planned), (*series.setting, budget)
                least = best[key][0] if key in best else row["tokens_per_s_dense"]
                if row["tokens_per_s"] > least:
                    best[key] = row["tokens_per_s"], planned
        return {key: planned for key, (_, planned) in best.items()}

    def _candidate(self, series: Series, budget: Budget) -> PlannedPoint | None:
        closed = self._bracket(series, budget)
        return series.points[closed.inside] if closed.inside < len(series.points) else None

    def _measure(self, points: list[PlannedPoint]) -> None:
        """Measure points on all windows, in the plan's own number format."""
        exact = [self._exact[planned] for planned in points]
        self._execute(self.plan, exact)
        for planned, whole in zip(points, exact, strict=True):
            done = all(self.session.store.done(key) for key in whole.keys)
            lost = self._lost(whole) if done else {}
            failed = "" if done else "a task failed"
            self._final[planned] = Evaluation(len(whole.evaluate_keys), lost, failed)

    def _row(self, planned: PlannedPoint) -> dict[str, Any]:
        """Figures of a point, from as many shards as were evaluated."""
        if planned in self._final:
            part = self._exact[planned]
        else:
            part = shards(planned, self._evaluation(planned).shards)
        if part not in self._rows:
            self._rows[part] = rows_of([part], self.session.store, self.materials)[0]
        return self._rows[part]

    def _answers(self, winners: dict[Place, PlannedPoint]) -> list[Found]:
        return [
            self._answer(series, budget, winners.get((*series.setting, budget)))
            for series in self.series
            for budget in self.budgets
        ]

    def _answer(self, series: Series, budget: Budget, winner: PlannedPoint | None) -> Found:
        planned = self._candidate(series, budget)
        if planned is None:
            return Found(series, budget, None, {}, math.nan, math.nan, False)
        row, best = self._row(planned), planned == winner
        whole, sure = planned in self._final, surely_within(row, budget)
        return Found(series, budget, planned, row, *ends_of(row, budget), whole, best, sure)

    # -- running -----------------------------------------------------------------------------

    def _with_mates(self, shards_of: dict[PlannedPoint, int]) -> list[PlannedPoint]:
        """The wanted slices, and what else reads their traces, which are gone afterwards."""
        return [
            shards(mate, n) for p, n in shards_of.items() for mate in self._mates[p.evaluate_keys]
        ]

    def _execute(self, plan: Plan, parts: list[PlannedPoint]) -> None:
        part = only(plan, parts)
        for key, task in part.tasks.items():
            if task.kind == "evaluate":
                self.asked[key] = evaluated_tokens(task.payload)
        self.session.run_all(part)
