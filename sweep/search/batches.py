"""Trials of a study, a batch at a time: asked, evaluated shard by shard, told in order.

A trial is looked at after 1, 2, 4, … shards. It stops early when the paired differences say that it
is clearly beyond the budget, or clearly slower than the best trial so far on the same windows. Both
questions are answered from its first shards alone, whatever else is in the store, so an interrupted
study decides as an undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reports.findings.budgets import Budget
from sweep.execution.session import Session
from sweep.keys import digest
from sweep.plan import planner as planning
from sweep.plan.materials import Materials
from sweep.plan.plan import PlannedPoint, only, shards
from sweep.results.rows import rows_of
from sweep.search.density_series import evaluated_tokens
from sweep.search.early_stop import (
    Noise,
    differences,
    interval,
    limit_of_mean,
    rungs,
    student_t,
    verdict,
)
from sweep.search.known import known_trials, remembered
from sweep.search.study import ImpossibleError, Study
from sweep.studies.ask_tell import PRUNABLE, AskedTrial, Search, Told, Trial
from sweep.studies.distributions import ORDERED, is_ordered

SHOWN = ("tokens_per_s", "delta_ppl", "ppl", "mlp_density", "hit_rate", "windows")
"""Figures that every trial notes, whatever its objective is."""

_NOT_ASKED = {"trials", "description", "fit", "known", "seed"}
"""Fields of a study that change nothing of a trial, or enter its identity otherwise."""
_LEAST = 0.01
"""Of the loss that a budget allows: less than it is as good as none."""

BUDGET = "delta_ppl"
"""Name of the constraint: ΔPPL minus what the budget allows."""


class Setting:
    """The search of one model, weights and device, and what its trials are measured against."""

    def __init__(
        self,
        study: Study,
        dense: PlannedPoint,
        name: str,
        journal: Path,
        known: Sequence[dict[str, Any]] = (),
    ) -> None:
        entry = study.entry
        self.study, self.dense, self.label, self.name = study, dense, label(dense), name
        self.known = len(known)
        """Trials that the store answered before the first was asked for."""
        self.metrics = tuple(entry.objective.metrics)
        self.search = Search(
            journal,
            self.name,
            study.space,
            list(entry.objective.metrics.values()),
            study.sampler,
            study.seed,
            [*known, *study.first],
        )
        self.prunes = entry.prune and study.sampler in PRUNABLE
        self.limit = math.inf
        self.mean_limit = math.inf
        self.ppl = math.nan

    def set_dense(self, ppl: float) -> None:
        """Say what the dense run's perplexity is, so that the budget is a number."""
        self.ppl = ppl
        if self.study.entry.objective.within is not None:
            self.limit = Budget.parse(self.study.entry.objective.within).limit(ppl)
            self.mean_limit = limit_of_mean(self.limit, ppl)

    @property
    def total(self) -> int:
        """Trials that it is to have, with those that were known."""
        return self.study.trials + self.known

    def beyond(self, delta: float) -> float:
        """How far ΔPPL is beyond the budget, at most 0 where it is within: the difference, or for
        Gaussian processes the logarithm of the ratio of mean losses, which is nearly a straight
        line in the density."""
        if self.study.sampler != "gp" or not self.mean_limit > 0:
            return delta - self.limit
        least = _LEAST * self.mean_limit
        lost = max(math.log1p(delta / self.ppl), least) if delta > -self.ppl else least
        return math.log(lost / self.mean_limit)

    def against(self, planned: PlannedPoint) -> PlannedPoint:
        """A point that is held against the dense run of the setting: that of its own weights, or of
        the weights as they are where what is done to them is searched."""
        return replace(planned, dense_keys=self.dense.evaluate_keys)

    def asked(self) -> list[AskedTrial]:
        """The next trials: what is left of a batch, or of all trials."""
        told, entry = len(self.search.trials()), self.study.entry
        left = min(entry.batch - told % entry.batch, self.total - told)
        return self.search.ask(max(0, left))

    def noise(self) -> Noise:
        """What the trials so far say of the spread between windows."""
        noise = Noise()
        for trial in self.search.trials():
            noise.squares += trial.notes.get("noise_squares", 0.0)
            noise.freedom += trial.notes.get("noise_freedom", 0)
        return noise

    def incumbent(self) -> Trial | None:
        """The fastest trial so far, where speed is the one objective."""
        if self.metrics != ("tokens_per_s",):
            return None
        return next(iter(self.search.best()), None)


@dataclass(slots=True)
class _Running:
    """A trial of the batch."""

    setting: Setting
    asked: AskedTrial
    planned: PlannedPoint | None
    told: Told | None = None

    def steps(self) -> list[int]:
        count = len(self.planned.evaluate_keys) if self.planned else 1
        return rungs(count) if self.setting.prunes and not self.known else [count]

    @property
    def known(self) -> bool:
        return self.asked.ordinal < self.setting.known


class Batches:
    """Runs batch after batch of all settings together, so that no worker waits for one of them."""

    def __init__(self, study: Study, session: Session, materials: Materials, journal: Path) -> None:
        self.study, self.session, self.materials = study, session, materials
        plan = planning.plan_points(study.settings, materials)
        session.run_all(plan)
        self.asked: dict[str, int] = {}
        """Tokens of every evaluation that the searches looked at, by key."""
        rows = rows_of(plan.points, session.store, materials)
        self.settings: list[Setting] = []
        for dense, row in zip(plan.points, rows, strict=True):
            if row["status"] != "done":
                raise ImpossibleError(f"{study.place}: the dense run failed: {row['error']}")
            name = f"{study.name} {label(dense)} {self._digest(dense)}"
            trials = remembered(journal, name, partial(self._known, dense, row["ppl"]))
            setting = Setting(study, dense, name, journal, trials)
            setting.set_dense(row["ppl"])
            self.settings.append(setting)

    def _known(self, dense: PlannedPoint, ppl: float) -> list[dict[str, Any]]:
        if not self.study.entry.known or self.study.sampler == "grid":
            return []
        within = self.study.entry.objective.within
        limit = math.inf if within is None else Budget.parse(within).limit(ppl)
        return known_trials(self.study, dense, limit, self.session.store, self.materials)

    def _digest(self, dense: PlannedPoint) -> str:
        """What makes it another study: another search, other weights, text or code."""
        study, entry = self.study, self.study.entry
        points = [study.point(dense.point, parameters) for parameters in study.complete_first()]
        keys = [p.keys for p in planning.plan_points(points, self.materials).points]
        document = entry.model_dump(mode="json", exclude=_NOT_ASKED) | {"sampler": study.sampler}
        identity = [document, study.seed, dense.keys, keys]
        ordered = study.sampler in ORDERED and any(map(is_ordered, study.space.values()))
        return digest([*identity, "ordered"] if ordered else identity)[:8]

    def run(self) -> bool:
        """One batch of every setting; False if all trials were told already."""
        running = [
            self._begun(setting, trial_of)
            for setting in self.settings
            for trial_of in setting.asked()
        ]
        if not running:
            return False
        points = [r.planned.point for r in running if r.planned]
        plan = planning.plan_points(points, self.materials)
        noises = {setting.name: setting.noise() for setting in self.settings}
        for step in range(max(len(r.steps()) for r in running)):
            live = [r for r in running if r.told is None and step < len(r.steps())]
            part = only(plan, [self._part(r, step) for r in live])
            self.asked |= {
                key: evaluated_tokens(task.payload)
                for key, task in part.tasks.items()
                if task.kind == "evaluate"
            }
            self.session.run_all(part)
            for trial in live:
                trial.told = self._look(trial, step, noises[trial.setting.name].copy())
        for trial in running:
            if trial.told is not None:
                trial.setting.search.tell(trial.asked, trial.told)
        return True

    def _begun(self, setting: Setting, trial: AskedTrial) -> _Running:
        try:
            point = self.study.point(setting.dense.point, trial.parameters)
        except ImpossibleError as error:
            told = Told(constraints={"possible": 1.0}, notes={"stopped": str(error)})
            return _Running(setting, trial, None, told)
        (planned,) = planning.plan_points([point], self.materials).points
        return _Running(setting, trial, setting.against(planned))

    def _part(self, trial: _Running, step: int) -> PlannedPoint:
        assert trial.planned is not None  # only a trial without a point is told before it runs
        return shards(trial.planned, trial.steps()[step])

    # -- looking -----------------------------------------------------------------------------

    def _look(self, trial: _Running, step: int, noise: Noise) -> Told | None:
        """What to tell, or None to go on with the next shards."""
        part, setting = self._part(trial, step), trial.setting
        row = rows_of([part], self.session.store, self.materials)[0]
        if row["status"] != "done":
            return Told(error=row["error"] or "a task that it needs failed")
        losses = self._differences(part)
        floor = min(setting.mean_limit, 1.0)
        trial_noise = Noise()
        trial_noise.add(losses, floor)
        notes = {name: row[name] for name in SHOWN if row[name] is not None}
        notes |= {"noise_squares": trial_noise.squares, "noise_freedom": trial_noise.freedom}
        notes |= {"known": True} if trial.known else {}
        limits = {} if math.isinf(setting.limit) else {BUDGET: setting.beyond(row["delta_ppl"])}
        if step == len(trial.steps()) - 1:
            values = tuple(float(row[metric]) for metric in setting.metrics)
            return Told(values, limits, notes)
        noise.add(losses, floor)
        reason = self._worse(trial, part, losses, noise)
        if not reason:
            return None
        partial = (len(losses), float(row[setting.metrics[0]]))
        return Told((), limits, {**notes, "stopped": reason}, partial)

    def _worse(self, trial: _Running, part: PlannedPoint, losses: Any, noise: Noise) -> str:
        """Why the trial is clearly worse; empty if it is not, or not clearly."""
        setting = trial.setting
        total = len(self._differences(setting.dense))
        if not math.isinf(setting.mean_limit):
            low, high = interval(losses, total, setting.mean_limit, noise)
            if verdict(low, high, setting.mean_limit) == "outside":
                return "beyond the budget"
        best = setting.incumbent()
        return "slower than the best" if best and self._slower(setting, part, best) else ""

    def _slower(self, setting: Setting, part: PlannedPoint, best: Trial) -> bool:
        """Whether the mean time of a token over all shards is clearly above the best trial's."""
        point = self.study.point(setting.dense.point, best.parameters)
        plan = planning.plan_points([point], self.materials)
        self.session.run_all(plan)
        theirs, ours = self._token_seconds(plan.points[0]), self._token_seconds(part)
        count = len(ours)
        if count < 2:
            return False
        more = ours - theirs[:count]
        left = math.sqrt(1 - count / len(theirs))
        half = student_t(count - 1) * float(more.std(ddof=1)) / math.sqrt(count) * left
        return float(more.mean()) - half > 0

    def _token_seconds(self, planned: PlannedPoint) -> np.ndarray:
        """Seconds per token of each shard, [shards]."""
        parts = [shards(planned, i + 1, i) for i in range(len(planned.evaluate_keys))]
        rows = rows_of(parts, self.session.store, self.materials)
        return np.array([1 / row["tokens_per_s"] for row in rows])

    def _differences(self, planned: PlannedPoint) -> np.ndarray:
        return window_differences(self.session, planned)


def window_differences(session: Session, planned: PlannedPoint) -> np.ndarray:
    """Loss per token of each window minus that of the dense run, [windows]."""
    records = session.store.records
    sparse = [records[key].result for key in planned.evaluate_keys]
    dense = [records[key].result for key in planned.dense_keys]
    return differences(
        [x for result in sparse for x in result["nll"]],
        [x for result in dense for x in result["nll"]],
        [x for result in sparse for x in result["predicted"]],
    )


def label(planned: PlannedPoint) -> str:
    """The model, its weights and the device, as a person would name them."""
    point = planned.point
    quant, device = point.quant, point.device
    done = "" if quant.method == "none" else f"{quant.method} "
    timing = "" if point.timing == "overlap" else f" {point.timing}"
    context = "" if point.kv_tokens == 2048 else f", {point.kv_tokens:,} tokens of context"
    bits = "bits of the file" if quant.of_file else f"{quant.bits:g} bit"
    return (
        f"{point.variant} {done}{bits}, {device.name} {device.dram_gb:g} GB,"
        f" Flash {device.flash_gbps:g} GB/s, DRAM {device.dram_gbps:g} GB/s{timing}{context}"
    )
