"""Optuna, and only here: a study asks for parameters and is told figures, the driver does the rest.

    asked = search.ask(4)               the next four, the same however often it is interrupted
    search.tell(asked[0], Told(...))    in the order in which they were asked

Trials are kept in Optuna's journal file, which optuna-dashboard opens. Two traps are dealt with. A
sampler that is made anew with one seed repeats its first suggestions: here each trial has a sampler
of its own, seeded with the study's seed plus the number of trials before it. A killed driver leaves
trials that run for ever: they are failed on opening (a failed trial without an error was
interrupted) and asked again with the same parameters, so that an interrupted study has the same
trials as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sweep.spec.spaces import DIGITS, Space
from sweep.studies.distributions import ORDERED, distribution_of, nearest

ORDINAL, ERROR = "ordinal", "error"
POPULATION = 20
"""Trials of a generation of NSGA-II: a study has tens of trials, not thousands."""
PRUNABLE = ("tpe", "gp", "random", "grid")
"""Samplers that a stopped trial does not mislead; nsga2 learns from whole trials only, and gp is
told what the trial had come to."""
GP_RANDOM = 6
"""Trials before those that `gp` proposes: searches have tens of trials, the first of them known to
be good."""

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedTrial:
    """A trial that waits to be told."""

    ordinal: int
    """Its place among the trials that count, from 0."""
    parameters: Parameters
    trial: Any


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a trial. Without values it was stopped early, or failed if it has an error."""

    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    """At most 0 where kept."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """User attributes: what a reader of the dashboard wants to see."""
    partial: tuple[int, float] | None = None
    """Step and value of a trial that was stopped, for a study with one objective."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that was told."""

    ordinal: int
    state: str
    """`done`, `stopped` or `failed`."""
    parameters: Parameters
    values: tuple[float, ...]
    feasible: bool
    notes: dict[str, Any]


class Search:
    """One Optuna study, in a journal file that one process at a time may have open."""

    def __init__(
        self,
        journal: Path | None,
        name: str,
        space: Mapping[str, Space],
        directions: Sequence[Literal["maximize", "minimize"]],
        sampler: str,
        seed: int,
        first: Sequence[Parameters] = (),
    ) -> None:
        """`first` are the parameters of the first trials; grid goes through all combinations.

        Without a journal the study is in memory, and asks the same of the same figures told.
        """
        _hush()
        ordered = sampler in ORDERED
        self.distributions = {key: distribution_of(value, ordered) for key, value in space.items()}
        self.fixed = [self._all_inside(parameters) for parameters in first]
        self._sampler, self._seed, self._several = sampler, seed, len(directions) > 1
        self.study = optuna.create_study(
            study_name=name,
            storage=None if journal is None else _storage(journal),
            directions=list(directions),
            load_if_exists=True,
        )
        self._again = self._fail_zombies()

    # -- asking ------------------------------------------------------------------------------

    def ask(self, count: int, wanted: Sequence[Parameters] = ()) -> list[AskedTrial]:
        """The next trials; whoever asks tells them all, in this order, before asking again.

        The first of those that `first` does not fix are the `wanted` ones.
        """
        start, left = len(self.trials()), iter(wanted)
        return [
            self._ask(i, next(left, None) if i >= len(self.fixed) else None)
            for i in range(start, start + count)
        ]

    def _ask(self, ordinal: int, wanted: Parameters | None = None) -> AskedTrial:
        self.study.sampler = self._made_sampler(ordinal)
        fixed = self._again.get(ordinal)
        if fixed is None and ordinal < len(self.fixed):
            fixed = self.fixed[ordinal]
        if fixed is None and wanted is not None:
            fixed = self._all_inside(wanted)
        if fixed is not None:
            self.study.enqueue_trial(fixed, skip_if_exists=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask(dict(self.distributions))
        trial.set_user_attr(ORDINAL, ordinal)
        return AskedTrial(ordinal, _rounded(trial.params), trial)

    def _made_sampler(self, ordinal: int) -> BaseSampler:
        seed = self._seed + ordinal
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._sampler == "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            if self._sampler == "gp":
                return optuna.samplers.GPSampler(
                    seed=seed, n_startup_trials=GP_RANDOM, deterministic_objective=True
                )
            if self._sampler == "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
            return optuna.samplers.RandomSampler(seed=seed)

    def _all_inside(self, parameters: Parameters) -> Parameters:
        return {key: self._inside(key, value) for key, value in parameters.items()}

    def _inside(self, key: str, value: Any) -> Any:
        """The nearest value that may be searched; a name that may not is left for Optuna to say."""
        distribution = self.distributions[key]
        if isinstance(distribution, FloatDistribution):
            return nearest(distribution, float(value))
        if isinstance(distribution, CategoricalDistribution) and not isinstance(value, str):
            numbers = [v for v in distribution.choices if isinstance(v, int | float)]
            return min(numbers, key=lambda v: abs(v - value)) if numbers else value
        return value

    # -- telling -----------------------------------------------------------------------------

    def tell(self, trial_of: AskedTrial, told: Told) -> None:
        """Finish a trial for good."""
        trial = trial_of.trial
        if self._sampler == "gp" and not self._several:
            told = self._as_whole(told)
        for name, value in told.constraints.items():
            trial.set_constraint(name, value)
        within = all(value <= 0 for value in told.constraints.values())
        feasible = within and not told.error  # optuna-dashboard does not see constraints
        for name, value in {**told.notes, "feasible": feasible}.items():
            trial.set_user_attr(name, value)
        if told.error:
            trial.set_user_attr(ERROR, told.error)
            self.study.tell(trial, state=TrialState.FAIL)
        elif told.values and not any(math.isnan(v) for v in told.values):
            self.study.tell(trial, list(told.values))
        else:
            if told.partial and not self._several:
                trial.report(told.partial[1], told.partial[0])
            self.study.tell(trial, state=TrialState.PRUNED)

    def _as_whole(self, told: Told) -> Told:
        """A stopped trial as one that ended with what it had come to, and one that makes no point
        as the worst so far: a Gaussian process learns from such alone."""
        if told.values or told.error:
            return told
        if told.partial:
            return replace(told, values=(told.partial[1],))
        ended = [t for t in self._counted() if t.state == TrialState.COMPLETE]
        if not ended:
            return told
        worst = min if self.study.direction.name == "MAXIMIZE" else max
        names = ended[0].constraints
        beyond = {name: max(1.0, *(t.constraints[name] for t in ended)) for name in names}
        return replace(told, values=(worst(t.values[0] for t in ended),), constraints=beyond)

    # -- reading -----------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """The trials that were told, in order; interrupted ones do not count."""
        return [_trial(trial) for trial in self._counted()]

    def best(self) -> list[Trial]:
        """The best feasible trial, or with two objectives the frontier, each point once.

        In the order of trials; ties go to the earlier one.
        """
        done = [t for t in self.trials() if t.state == "done" and t.feasible]
        signs = [1 if d.name == "MAXIMIZE" else -1 for d in self.study.directions]
        scored = [(tuple(s * v for s, v in zip(signs, t.values, strict=True)), t) for t in done]
        if not self._several:
            top = max((score for score, _ in scored), default=None)
            return [t for score, t in scored if score == top][:1]
        front: dict[str, Trial] = {}
        for score, trial in scored:
            beaten = any(_beats(other, score) for other, _ in scored)
            if not beaten:
                front.setdefault(json.dumps(trial.parameters, sort_keys=True), trial)
        return list(front.values())

    def importance(self) -> dict[str, dict[str, float]]:
        """Share of each parameter in what varies of each objective, by PED-ANOVA.

        By position of the objective, as text. Empty where trials are too few or too alike to tell.
        """
        by_objective: dict[str, dict[str, float]] = {}
        for k in range(len(self.study.directions)):
            shares = self._importance(k)
            if shares:
                by_objective[str(k)] = shares
        return by_objective

    def _importance(self, objective: int) -> dict[str, float]:
        names = [n for n, d in self.distributions.items() if not d.single()]
        if not names:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                shares = optuna.importance.get_param_importances(
                    self.study,
                    evaluator=evaluator,
                    params=names,
                    target=lambda trial: trial.values[objective],
                )
            except (ValueError, RuntimeError):  # fewer than two whole trials, or all alike
                return {}
        return {name: float(shares[name]) for name in sorted(shares)}

    def _counted(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and not _interrupted(t)]

    def _fail_zombies(self) -> dict[int, Parameters]:
        """Fail what a killed driver left open; returns the parameters to ask again, by ordinal."""
        for _ in self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.ask()  # takes it off the queue
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
        left = [t for t in self.study.get_trials(deepcopy=False) if _interrupted(t)]
        whole = [t for t in left if t.params.keys() == self.distributions.keys()]
        return {t.user_attrs[ORDINAL]: t.params for t in whole if ORDINAL in t.user_attrs}


def _interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def _beats(values: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return values != other and all(a >= b for a, b in zip(values, other, strict=True))


def _trial(frozen: FrozenTrial) -> Trial:
    states = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped"}
    notes = dict(frozen.user_attrs)
    state = "stopped" if notes.get("stopped") else states.get(frozen.state, "failed")
    return Trial(
        ordinal=notes.pop(ORDINAL),
        state=state,
        parameters=_rounded(frozen.params),
        values=tuple(frozen.values or ()) if state == "done" else (),
        feasible=bool(notes.pop("feasible", False)),
        notes=notes,
    )


def _rounded(parameters: Mapping[str, Any]) -> Parameters:
    return {
        key: round(value, DIGITS) if isinstance(value, float) else value
        for key, value in parameters.items()
    }


def _storage(journal: Path) -> optuna.storages.JournalStorage:
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.with_name(journal.name + ".lock").unlink(missing_ok=True)  # of a killed driver
    _mend(journal)
    return optuna.storages.JournalStorage(JournalFileBackend(str(journal)))


def _mend(journal: Path) -> None:
    """Set a damaged journal aside: its trials are asked again, and what they ran is in the store.

    A last line that a killed driver left unfinished is cut off; the trial that it was of is open.
    """
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            json.loads(line)
    except ValueError:
        journal.replace(journal.with_suffix(".damaged"))
        return
    if whole != content:
        with journal.open("r+b") as file:
            file.truncate(len(whole))


def _hush() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
