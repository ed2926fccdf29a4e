"""Trials of a study, a batch at a time: asked, evaluated shard by shard, told in order.

A trial is looked at after 1, 2, 4, … shards. It stops early when the paired differences say that it
is clearly beyond the budget, or clearly slower than the best trial so far on the same windows. Both
questions are answered from its first shards alone, whatever else is in the store, so an interrupted
study decides as an undisturbed one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reports.findings.budgets import PPL, Budget
from sweep.execution.session import Session
from sweep.keys import digest
from sweep.plan import planner as planning
from sweep.plan.materials import Materials
from sweep.plan.plan import PlannedPoint, only, shards
from sweep.plan.point import Point
from sweep.results.rows import rows_of
from sweep.search.density_series import evaluated_tokens
from sweep.search.early_stop import Floats, Noise, interval, rungs, student_t, verdict
from sweep.search.known import known_trials, remembered
from sweep.search.limits import Limit, lost_by_window
from sweep.search.study import ImpossibleError, Study
from sweep.studies.ask_tell import PRUNABLE, AskedTrial, Search, Told, Trial
from sweep.studies.distributions import ORDERED, is_ordered

SHOWN = ("tokens_per_s", "delta_ppl", "kl", "ppl", "mlp_density", "hit_rate", "windows")
"""Figures that every trial notes, whatever its objective is; KL where it is measured."""

_NOT_ASKED = {"trials", "description", "fit", "known", "seed"}
"""Fields of a study that change nothing of a trial, or enter its identity otherwise."""


class Setting:
    """The search of one model, weights and device, and what its trials are measured against."""

    def __init__(
        self,
        study: Study,
        dense: PlannedPoint,
        name: str,
        journal: Path,
        limit: Limit | None,
        known: Sequence[dict[str, Any]] = (),
        patience: int | None = None,
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
        self.limit = limit
        """What the budget allows; None where anything may be lost."""
        self.patience = patience
        """Trials in a row that bring nothing better, after which the search ends; None: none."""

    @property
    def total(self) -> int:
        """Trials that it is to have, with those that were known."""
        return self.study.trials + self.known

    def point(self, parameters: Mapping[str, Any]) -> Point:
        """The point of a trial. Raises ImpossibleError."""
        return self.study.point(self.dense.point, parameters)

    @property
    def of(self) -> str:
        """What the budget is of, and so what windows are looked at for."""
        return PPL if self.limit is None else self.limit.budget.of

    @property
    def mean_limit(self) -> float:
        """The bound on the mean over windows; infinite without a budget."""
        return math.inf if self.limit is None else self.limit.mean

    def constraints(self, row: Mapping[str, Any]) -> dict[str, float]:
        """By name how far a row is beyond the budget, for Gaussian processes as a logarithm."""
        if self.limit is None:
            return {}
        beyond = self.limit.log_beyond if self.study.sampler == "gp" else self.limit.beyond
        return {self.limit.column: beyond(row[self.limit.column])}

    def against(self, planned: PlannedPoint) -> PlannedPoint:
        """A point that is held against the dense run of the setting: that of its own weights, or of
        the weights as they are where what is done to them is searched."""
        return replace(planned, dense_keys=self.dense.evaluate_keys)

    def asked(self) -> list[AskedTrial]:
        """The next trials: what is left of a batch, or of all trials."""
        told, entry = len(self.search.trials()), self.study.entry
        left = max(0, min(entry.batch - told % entry.batch, self.total - told))
        if not self._settled():
            return self.search.ask(left)
        near = self._near()
        return self.search.ask(left, near) if near else []

    def _near(self) -> list[dict[str, Any]]:
        """What was not tried next to the best trial, if the study knows."""
        trials, best = self.search.trials(), next(iter(self.search.best()), None)
        if best is None:
            return []
        return self.study.near(best.parameters, [trial.parameters for trial in trials])

    def _settled(self) -> bool:
        """Whether nothing better came for so long that the search ends before all trials, when what
        is next to the best one was tried: asked between batches alone, so that an interrupted one
        does not end within one."""
        told, best = len(self.search.trials()), next(iter(self.search.best()), None)
        if self.patience is None or best is None or told % self.study.entry.batch:
            return False
        begun = self.known + len(self.study.first)
        return told - max(best.ordinal + 1, begun) >= self.patience

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
    """Runs batch after batch of all settings together, so that no worker waits for one of them.

    Studies that are run together are on one text and in one journal.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        session: Session,
        materials: Materials,
        journal: Path,
        patience: int | None = None,
    ) -> None:
        """With `patience` a search ends after so many trials that bring nothing better."""
        self.session, self.materials, self.journal = session, materials, journal
        self.patience = patience
        self.asked: dict[str, int] = {}
        """Tokens of every evaluation that the searches looked at, by key."""
        pairs = [(study, dense) for study in studies for dense in study.settings]
        plan = planning.plan_points(dict.fromkeys(dense for _, dense in pairs), materials)
        session.run_all(plan)
        rows = dict(zip(plan.points, rows_of(plan.points, session.store, materials), strict=True))
        planned = {p.point: p for p in plan.points}
        self.settings = [
            self._setting(study, planned[dense], rows[planned[dense]]) for study, dense in pairs
        ]

    def _setting(self, study: Study, dense: PlannedPoint, row: Mapping[str, Any]) -> Setting:
        if row["status"] != "done":
            raise ImpossibleError(f"{study.place}: the dense run failed: {row['error']}")
        name = f"{study.name} {label(dense)} {self._digest(study, dense)}"
        within = study.entry.objective.within
        limit = None if within is None else Limit(Budget.parse(within), row["ppl"])
        known = remembered(self.journal, name, partial(self._known, study, dense, limit))
        return Setting(study, dense, name, self.journal, limit, known, self.patience)

    def _known(
        self, study: Study, dense: PlannedPoint, limit: Limit | None
    ) -> list[dict[str, Any]]:
        if not study.entry.known or study.sampler == "grid":
            return []
        return known_trials(study, dense, limit, self.session.store, self.materials)

    def _digest(self, study: Study, dense: PlannedPoint) -> str:
        """What makes it another study: another search, other weights, text or code."""
        entry = study.entry
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
            point = setting.point(trial.parameters)
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
        losses = self._lost(setting, part)
        floor = min(setting.mean_limit, 1.0)
        trial_noise = Noise()
        trial_noise.add(losses, floor)
        notes = {name: row[name] for name in SHOWN if row[name] is not None}
        notes |= {"noise_squares": trial_noise.squares, "noise_freedom": trial_noise.freedom}
        notes |= {"known": True} if trial.known else {}
        limits = setting.constraints(row)
        if step == len(trial.steps()) - 1:
            values = tuple(float(row[metric]) for metric in setting.metrics)
            return Told(values, limits, notes)
        noise.add(losses, floor)
        reason = self._worse(trial, part, losses, noise)
        if not reason:
            return None
        partial = (len(losses), float(row[setting.metrics[0]]))
        return Told((), limits, {**notes, "stopped": reason}, partial)

    def _worse(self, trial: _Running, part: PlannedPoint, losses: Floats, noise: Noise) -> str:
        """Why the trial is clearly worse; empty if it is not, or not clearly."""
        setting = trial.setting
        total = len(self._lost(setting, setting.dense))
        if not math.isinf(setting.mean_limit):
            low, high = interval(losses, total, setting.mean_limit, noise)
            if verdict(low, high, setting.mean_limit) == "outside":
                return "beyond the budget"
        best = setting.incumbent()
        return "slower than the best" if best and self._slower(setting, part, best) else ""

    def _slower(self, setting: Setting, part: PlannedPoint, best: Trial) -> bool:
        """Whether the mean time of a token over all shards is clearly above the best trial's."""
        plan = planning.plan_points([setting.point(best.parameters)], self.materials)
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

    def _lost(self, setting: Setting, planned: PlannedPoint) -> Floats:
        return lost_by_window(self.session.store, planned, setting.of)


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
