"""A sweep with its points and tasks: what a run works on, and what `sweep plan` shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweep.plan.grid import Grid, expand, only
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan
from sweep.plan.planner import plan_points
from sweep.spec.entries import Sweep


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep with its points and tasks."""

    sweep: Sweep
    grid: Grid
    plan: Plan
    materials: Materials


def plan_sweep(
    sweep: Sweep,
    fetch: bool = False,
    notify: Callable[[str], None] = print,
    points: tuple[str, ...] = (),
) -> SweepPlan:
    """Points and tasks of a sweep. With `fetch`, models and texts are made present first.
    `points` restricts it to some, by key.

    Without it nothing heavy is imported, and what is not present is planned under a note.
    """
    grid = only(expand(sweep), points)
    materials = Materials(sweep, downstream=True)
    plan = plan_points(grid.points, materials)
    if fetch:
        materials.fetch(grid.points, plan.uses_calibration, notify)
        if not materials.complete:
            materials = Materials(sweep, downstream=True)
            plan = plan_points(grid.points, materials)
    return SweepPlan(sweep, grid, plan, materials)
