"""Which tasks of a plan a store lacks, and why each of them runs."""

from __future__ import annotations

from functools import cache

from sweep.plan.plan import Plan
from sweep.store.store import Store
from sweep.tasks.task import Task


def missing(plan: Plan, store: Store, retry_failed: bool = False) -> dict[str, str]:
    """Tasks to run now, with the reason of each; needed ones come first.

    A task that failed by itself stays failed, and so does what needs it, unless `retry_failed`.
    """
    blocked = _blocked(plan, store, retry_failed)
    keeps = cache(store.keeps)
    reasons: dict[str, str] = {}
    for task in reversed(list(plan.tasks.values())):  # what needs others comes before them
        if task.key in blocked:
            continue
        reason = _reason(task, store)
        if reason:
            reasons.setdefault(task.key, reason)
        if task.key in reasons:
            for needed in task.needs:
                if needed not in reasons and store.done(needed) and not keeps(needed):
                    reasons[needed] = f"{_HANDOVER[plan.tasks[needed].kind]} needed again"
    return {key: reasons[key] for key in plan.tasks if key in reasons}


def _blocked(plan: Plan, store: Store, retry_failed: bool) -> set[str]:
    """Tasks that failed by themselves, and all that need one of them."""
    blocked: set[str] = set()
    for task in plan.tasks.values():
        record = store.records.get(task.key)
        failed = record is not None and record.status == "failed" and not record.infrastructure
        if (failed and not retry_failed) or blocked.intersection(task.needs):
            blocked.add(task.key)
    return blocked


_HANDOVER = {
    "evaluate": "trace",
    "calibrate": "statistics",
    "transform": "weights",
    "train": "training",
}


def _reason(task: Task, store: Store) -> str:
    record = store.records.get(task.key)
    if record is None:
        return _changed(task, store)
    if record.status == "done":
        return ""
    return f"{'lost' if record.infrastructure else 'failed'} before: {record.error}"


def _changed(task: Task, store: Store) -> str:
    """Why a task has no result: it is new, or something in it is not what it was."""
    earlier = store.latest(task.kind, task.label)
    if earlier is None:
        return "new"
    names = sorted(task.payload.keys() | earlier.payload.keys())
    changed = [n for n in names if task.payload.get(n) != earlier.payload.get(n)]
    return f"changed since the last run: {', '.join(changed)}" if changed else "new"
