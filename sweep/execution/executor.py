"""Where tasks run: one protocol, and its in-process twin for tests and debugging."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from sweep.errors import SweepError
from sweep.execution.resources import Resources, local_resources
from sweep.tasks import run as tasks
from sweep.tasks.task import Record, Task

Handle = Any
"""A value that an executor keeps: an object in this process, or a reference to one elsewhere."""


RETRIES = 2
"""How often a task is run again when the machine failed it; never after an error of its own."""


class ExecutorLostError(SweepError):
    """What runs the tasks is gone; the text says what became of it."""


class HandoverLostError(SweepError):
    """What a task handed over is gone, and could not be made again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task that has ended, and the handle of what it handed over."""

    record: Record
    handle: Handle


class Executor(Protocol):
    """Runs tasks somewhere. Every implementation passes one contract suite.

    `submit` returns at once. `wait` returns the tasks that ended since, at least one unless the
    timeout passed. Failures are records, never exceptions; ExecutorLostError alone is raised, when
    nothing more can run. `get` raises HandoverLostError. `close` drops what has not ended.
    """

    where: str

    def resources(self) -> Resources: ...

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None: ...

    def wait(self, timeout: float) -> list[Outcome]: ...

    def put(self, value: Any) -> Handle: ...

    def get(self, handle: Handle) -> Any: ...

    def close(self) -> None: ...


class InProcessExecutor:
    """Runs each task in this process, one at a time, when it is waited for."""

    where = "this process"

    def __init__(self) -> None:
        self._waiting: deque[tuple[Task, tuple[Handle, ...], str]] = deque()

    def resources(self) -> Resources:
        return local_resources()

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None:
        self._waiting.append((task, inputs, needs.device))

    def wait(self, timeout: float) -> list[Outcome]:
        if not self._waiting:
            return []
        task, inputs, device = self._waiting.popleft()
        record, handover = tasks.run(task, inputs, device)
        return [Outcome(record, handover)]

    def put(self, value: Any) -> Handle:
        return value

    def get(self, handle: Handle) -> Any:
        return handle

    def close(self) -> None:
        self._waiting.clear()
