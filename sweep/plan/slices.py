"""Parts of a plan: some of its points, or the first windows of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sweep.plan.plan import Plan, PlannedPoint


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
    wanted = list(points)
    part = tasks_of(plan, (key for point in wanted for key in point.keys))
    part.points = wanted
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
