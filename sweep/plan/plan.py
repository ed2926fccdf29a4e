"""A plan: points, and the tasks that answer them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sweep.plan.point import Point
from sweep.tasks.task import KINDS, Task

Scores = tuple[tuple[str, tuple[str, ...]], ...]
"""Of each downstream task by name, the keys of its shards."""


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point and the keys of the tasks that answer it, a shard each."""

    point: Point
    evaluate_keys: tuple[str, ...]
    dense_keys: tuple[str, ...]
    simulate_keys: tuple[str, ...]
    """Empty where no group is pruned and where the selector counts its hits itself."""
    full_keys: tuple[str, ...] = ()
    """The dense model with its weights as they were."""
    prepare: tuple[str, ...] = ()
    """What these evaluations work with: calibration, changed weights, training."""
    weights: str = ""
    """The task that made the weights which `evaluate_keys` run on; empty for the model's own."""
    scores: Scores = ()
    dense_scores: Scores = ()

    @property
    def keys(self) -> tuple[str, ...]:
        scored = [key for _, keys in (*self.dense_scores, *self.scores) for key in keys]
        return tuple(dict.fromkeys((*self.measured, *scored)))

    @property
    def measured(self) -> tuple[str, ...]:
        """Keys of what perplexity and speed come from."""
        answers = (*self.full_keys, *self.dense_keys, *self.evaluate_keys, *self.simulate_keys)
        return tuple(dict.fromkeys((*self.prepare, *answers)))


@dataclass(slots=True)
class Plan:
    """Planned points and all their tasks, needed ones before those that need them."""

    points: list[PlannedPoint] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def uses_calibration(self) -> bool:
        """Whether a task reads the calibration text."""
        without = ("evaluate", "score", "simulate")
        return any(task.kind not in without for task in self.tasks.values())

    def counts(self) -> dict[str, int]:
        """Tasks by kind."""
        counts = Counter(task.kind for task in self.tasks.values())
        return {kind: counts.get(kind, 0) for kind in KINDS}


# -- parts of a plan -------------------------------------------------------------------------


def shards(planned: PlannedPoint, stop: int, start: int = 0) -> PlannedPoint:
    """The point as if its text had only these shards: the same tasks, fewer of them."""
    return replace(
        planned,
        evaluate_keys=planned.evaluate_keys[start:stop],
        dense_keys=planned.dense_keys[start:stop],
        simulate_keys=planned.simulate_keys[start:stop],
    )


def only(plan: Plan, points: Iterable[PlannedPoint]) -> Plan:
    """The part of a plan that answers some of its points, or slices of them."""
    chosen = list(points)
    part = tasks_of(plan, (key for point in chosen for key in point.keys))
    part.points = chosen
    return part


def tasks_of(plan: Plan, keys: Iterable[str]) -> Plan:
    """The part of a plan that has these tasks and what they need, and no points."""
    part = Plan(notes=plan.notes)
    for key in keys:
        _add(plan, part, key)
    return part


def _add(plan: Plan, part: Plan, key: str) -> None:
    """A task after the ones that it needs."""
    if key not in part.tasks:
        for needed in plan.tasks[key].needs:
            _add(plan, part, needed)
        part.tasks[key] = plan.tasks[key]
