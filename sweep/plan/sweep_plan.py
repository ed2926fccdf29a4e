"""A sweep with its points and tasks: what a run works on, and what `sweep plan` shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweep.plan.excluded_points import check_each
from sweep.plan.grid import Grid, Skipped, expand, only
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan
from sweep.plan.planner import plan_points, without_empty_caches
from sweep.plan.sizes import uncached_notes
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
    whole = expand(sweep)
    models = {point.model: point for point in whole.points}
    materials = _materials(sweep, tuple(models))
    check_each(models, materials.geometry, sweep.name)
    grid, notes = _simplest(whole, materials, points)
    plan = plan_points(grid.points, materials)
    if fetch:
        materials.fetch(grid.points, plan.uses_calibration, notify)
        if not materials.complete:
            materials = _materials(sweep, tuple(models))
            plan = plan_points(grid.points, materials)
    plan.notes = [*plan.notes, *notes]
    return SweepPlan(sweep, grid, plan, materials)


def _materials(sweep: Sweep, models: tuple[str, ...]) -> Materials:
    """What the sweep works on with these of its models."""
    materials = Materials(sweep, downstream=True)
    materials.models = models
    return materials


def _simplest(grid: Grid, materials: Materials, keys: tuple[str, ...]) -> tuple[Grid, list[str]]:
    """The points of a grid with those that differ in an empty cache as one, and notes about them.

    `keys` choose some points, also by a key that a point has with its empty cache.
    """
    simplest = dict(zip(grid.points, without_empty_caches(grid.points, materials), strict=True))
    if keys:
        both = dict.fromkeys([*simplest.values(), *simplest])
        chosen = only(Grid(tuple(both), grid.skipped), keys).points
        points = dict.fromkeys(simplest.get(point, point) for point in chosen)
        return Grid(tuple(points), grid.skipped), []
    points = dict.fromkeys(simplest.values())
    fallen = len(simplest) - len(points)
    if fallen:
        reason = "nothing is cached, so policy and γ change nothing: one point stands for them"
        grid = Grid(tuple(points), (*grid.skipped, Skipped(reason, fallen)))
    else:
        grid = Grid(tuple(points), grid.skipped)
    changed = (point for point, simple in simplest.items() if point != simple)
    return grid, uncached_notes(changed, materials.title)
