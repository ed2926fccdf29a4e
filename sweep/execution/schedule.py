"""In which order tasks run, which no result depends on.

By priority, then so that a run that is stopped has answers: dense runs and calibrations, then the
first shard of every point, then the rest; in each of these by model, and the longest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sweep.plan.excluded_points import is_method
from sweep.plan.plan import Plan, PlannedPoint
from sweep.tasks.task import Task

_WEIGHT = {"train": 100.0, "transform": 30.0}
"""Passes over the windows that a kind of task takes, roughly; 1 for the others."""
_DOCUMENT = 400
"""Tokens of a document of a downstream task with its examples, roughly."""
_MASKED = 1.2
_SELECTED = {"cache-aware": 1.3, "read-aware": 8.0, "resident-threshold": 2.0}
"""Time of an evaluation with masks, and with masks that a cache decides, over a dense one."""


DENSE, FIRST, REST = range(3)
"""Stages of a run: what all points are held against, a shard of each, and all others."""
_LARGE = ("weights", "trained", "dense_weights")
"""Roles of hand-overs that are large: what takes one does not wait for a later stage."""


class Rank(NamedTuple):
    """Tasks of lower rank run first."""

    priority: float = 0.0
    """Below 0 for what is wanted first."""
    stage: int = 0
    """One of `DENSE`, `FIRST` and `REST`."""
    model: int = 0
    """Place of the task's model: workers keep their model, so models come one after another."""
    effort: float = 0.0
    """Below 0: minus the work, so that a long task is not the last to start."""


def ranks(plan: Plan, todo: Iterable[str], priority: Mapping[str, float]) -> dict[str, Rank]:
    """Ranks of the tasks to run, for `priority` by method (higher first, 0 where none is given).

    A task that several points need has the highest of their priorities. Models come in the order of
    the plan, and in the reverse one in the middle stage, so that a worker seldom loads one again.
    """
    priorities = _priorities(plan.points, priority) if priority else {}
    staged = stages(plan)
    places: dict[str, int] = {}
    rank_of = {}
    for key in todo:
        task = plan.tasks[key]
        model = task.where.get("model", "")
        order = places.setdefault(model, len(places))
        turned = -order if staged[key] == FIRST else order  # a stage begins where one has ended
        rank_of[key] = Rank(-priorities.get(key, 0.0), staged[key], turned, -effort(task))
    return rank_of


def stages(plan: Plan) -> dict[str, int]:
    """The stage of every task; one that another needs is not in a later stage than that one."""
    stage_of = {key: _own_stage(task) for key, task in plan.tasks.items()}
    for planned in plan.points:
        for key in planned.evaluate_keys[:1]:
            stage_of[key] = min(stage_of[key], FIRST)
        for key in (*planned.dense_keys, *planned.full_keys):
            stage_of[key] = DENSE
    for key in reversed(plan.tasks):  # needed ones stand before those that need them
        for needed in plan.tasks[key].needs:
            stage_of[needed] = min(stage_of[needed], stage_of[key])
    return stage_of


def _own_stage(task: Task) -> int:
    if task.kind == "calibrate":
        return DENSE
    large = any(role in _LARGE for role in task.payload.get("inputs", {}))
    return FIRST if large and task.kind == "evaluate" else REST


def _priorities(points: Iterable[PlannedPoint], priority: Mapping[str, float]) -> dict[str, float]:
    by_key: dict[str, float] = {}
    for planned in points:
        named = [p for name, p in priority.items() if is_method(planned.point, name)]
        best = max(named, default=0.0)
        for key in planned.keys:
            by_key[key] = max(best, by_key.get(key, best))
    return by_key


def effort(task: Task) -> float:
    """How long a task takes, in tokens that a dense evaluation would do in the time; roughly."""
    payload = task.payload
    windows = payload.get("windows", ())
    count = windows if isinstance(windows, int) else len(windows)
    tokens = count * payload.get("window_tokens", 1) * _WEIGHT.get(task.kind, 1.0)
    if "documents" in payload:
        begin, end = payload["documents"]
        tokens = float((end - begin) * _DOCUMENT)
    selector = payload.get("selector") or {}
    if not selector:
        return tokens
    return tokens * _SELECTED.get(selector.get("name", ""), _MASKED)
