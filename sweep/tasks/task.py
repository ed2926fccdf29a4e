"""A task and the record of one that has ended: what planner, driver, store and workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = ("calibrate", "transform", "train", "evaluate", "score", "simulate")
"""All kinds of task, in the order in which they need each other."""

PERSISTED = frozenset({"calibrate", "transform", "train", "score"})
"""Kinds whose hand-over is kept in the store, and whose record is written as soon as they end."""


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work. `payload` is JSON and holds all that can change the result.

    `payload["inputs"]` names, by role, the tasks whose hand-over this one takes.
    """

    kind: str
    key: str
    payload: dict[str, Any]
    label: str
    where: dict[str, str] = field(default_factory=dict)
    """Where the worker finds what `payload` names by fingerprint; not part of the key."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the tasks whose hand-over this one takes, in the order of their roles."""
        return tuple(self.payload.get("inputs", {}).values())


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a task that has ended; a line of the journal."""

    key: str
    kind: str
    label: str
    status: str
    """`done` or `failed`."""
    payload: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    infrastructure: bool = False
    """The failure was the machine's, not the task's: worth trying again."""
    seconds: float = 0.0
    ended: float = 0.0
    """When, in seconds since 1970."""
    worker: str = ""
    log: str = ""


def lost_record(task: Task, error: str) -> Record:
    """The record of a task whose worker, node or input was lost."""
    return Record(
        task.key, task.kind, task.label, "failed", task.payload, error=error, infrastructure=True
    )
