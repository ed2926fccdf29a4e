"""Windows of evaluations and documents of tasks, from the store, as the statistics of cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.findings.budgets import JOULE, KL, PPL, Budget
from reports.findings.costs import cost
from reports.findings.points import Point
from sweep.certainty.bounds import (
    UNSEEN,
    Bounds,
    Ends,
    accuracy_ends,
    bounds,
    delta_ends,
    first,
    known,
    mean_ends,
    ratio_ends,
)
from sweep.certainty.looks import Levels, whole_level
from sweep.plan.plan import PlannedPoint
from sweep.results.perplexity import Losses
from sweep.store.store import Store

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statistic:
    """What a budget limits of an evaluation: `ratio` and `delta` of perplexity, `kl`, the accuracy
    lost on a task by its column, or what is known without windows."""

    of: str
    keys: Keys = ()
    """All shards of it, in the order in which windows are taken."""
    dense: Keys = ()
    known: tuple[float, float] = (math.nan, math.nan)


NOTHING = Statistic("known", known=(0.0, 0.0))
"""What dense loses."""


def statistic(point: Point, planned: PlannedPoint, budget: Budget) -> Statistic:
    """What a budget limits of a point, whose `planned` form has all windows that it may get."""
    if budget.of == JOULE:
        return Statistic("known", known=(point.energy_j_low, point.energy_j_high))
    if point.dense:
        return NOTHING
    if budget.of in (PPL, KL):
        of = budget.of if budget.of == KL else "ratio" if budget.relative else "delta"
        return Statistic(of, planned.evaluate_keys, planned.dense_keys)
    own, dense = (dict(scores) for scores in (planned.scores, planned.dense_scores))
    task, lost = budget.of.removeprefix("acc_"), cost(point, budget)
    return Statistic(budget.of, own.get(task, ()), dense.get(task, ()), (lost, lost))


class Evidence:
    """Bounds of statistics after so many looks. What was read of the store is kept."""

    def __init__(self, store: Store, looks: Sequence[int], levels: Sequence[Levels]) -> None:
        self.store, self.looks, self.levels = store, looks, levels
        self._memory: dict[tuple[Statistic, int], Bounds] = {}

    def bounds(self, asked: Statistic, seen: int) -> Bounds:
        """Of a statistic of which `seen` looks have their windows."""
        if asked.of == "known":
            return known(*asked.known) if all(map(math.isfinite, asked.known)) else UNSEEN
        if (asked, seen) not in self._memory:
            self._memory[asked, seen] = self._bounds(asked, seen)
        return self._memory[asked, seen]

    def _bounds(self, asked: Statistic, seen: int) -> Bounds:
        if asked.of.startswith("acc_"):
            return self._of_accuracy(asked)
        estimate = self._estimate(asked, self.looks[seen - 1])
        return bounds(estimate, self.ends(asked), self.looks, self.levels, seen)

    def _estimate(self, asked: Statistic, windows: int) -> float:
        if asked.of == KL:
            return first(self._windows(asked.keys, "kl"), windows).mean
        loss, dense = (
            first(self._windows(k), windows).perplexity for k in (asked.keys, asked.dense)
        )
        return loss / dense - 1 if asked.of == "ratio" else loss - dense

    def ends(self, asked: Statistic) -> Ends:
        """Intervals of a statistic of windows."""
        if asked.of == KL:
            return mean_ends(self._windows(asked.keys, "kl"))
        of = ratio_ends if asked.of == "ratio" else delta_ends
        return of(self._windows(asked.keys), self._windows(asked.dense))

    def _windows(self, keys: Keys, counted: str = "nll") -> Losses:
        """Sums of each window of the shards that are done, in the order of the shards."""
        results = _until_missing(self._result(key) for key in keys)
        sums = [value for result in results for value in result[counted]]
        predicted = [value for result in results for value in result["predicted"]]
        return Losses(np.array(sums, np.float64), np.array(predicted, np.float64))

    def _result(self, key: str) -> Mapping[str, Any] | None:
        record = self.store.done(key)
        return None if record is None else record.result

    def _of_accuracy(self, asked: Statistic) -> Bounds:
        """From documents, which are all there from the first look on: they have the level of all
        looks. A score that is no share of right ones tells nothing."""
        own, dense = ([self._result(key) for key in keys] for keys in (asked.keys, asked.dense))
        pair = _documents([r for r in own if r], [r for r in dense if r], asked.known[0])
        if pair is None or None in (*own, *dense):
            return UNSEEN
        level = whole_level(self.levels)
        low, high = (
            accuracy_ends(*pair, level.beyond)[0],
            accuracy_ends(*pair, level.within)[1],
        )
        return Bounds(asked.known[0], low, high, pair[2], True)


def _documents(
    own: Sequence[Mapping[str, Any]], dense: Sequence[Mapping[str, Any]], lost: float
) -> tuple[int, int, int] | None:
    """Documents that the model has wrong and the dense one right, the reverse, and all, in the
    metric of which the means differ by what the column shows; None where there is no such, or where
    a document can be right in part."""
    for metric in own[0]["values"] if own else ():
        ours, theirs = (
            np.array([v for result in results for v in result["values"].get(metric, ())], float)
            for results in (own, dense)
        )
        if len(ours) != len(theirs) or not np.isin([*ours, *theirs], (0.0, 1.0)).all():
            continue
        if math.isclose(float(np.mean(theirs) - np.mean(ours)), lost, abs_tol=1e-9):
            return int((theirs > ours).sum()), int((ours > theirs).sum()), len(ours)
    return None


def _until_missing(results: Iterable[Mapping[str, Any] | None]) -> list[Mapping[str, Any]]:
    """Those before the first that is not there."""
    whole: list[Mapping[str, Any]] = []
    for result in results:
        if result is None:
            break
        whole.append(result)
    return whole
