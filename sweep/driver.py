"""The driver: takes what is missing of a plan through an executor into the store."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from sweep.executor import Executor, Handle, Outcome
from sweep.plan import Plan
from sweep.resources import Resources
from sweep.store import Store
from sweep.tasks import PERSISTED, Record, Task

POLL_SECONDS = 0.5
_LONG = ("transform", "train", "evaluate")
"""Kinds that run a model; they wait for those that count."""


class Watcher(Protocol):
    """Is told what happens in a run; the progress display is one."""

    def started(self, task: Task) -> None: ...

    def ended(self, record: Record) -> None: ...

    def dropped(self, task: Task) -> None: ...

    def tick(self) -> None: ...


@dataclass(slots=True)
class Run:
    """One pass over the missing tasks. `execute` returns when all ended or a stop was asked for.

    An evaluation is written to the store when the simulations of its trace have ended, so that a
    killed run loses the shards in flight and no finished task is ever done twice.
    """

    plan: Plan
    todo: dict[str, str]
    store: Store
    executor: Executor
    needs: dict[str, Resources]
    watcher: Watcher
    keep_traces: bool = False
    fail_fast: bool = False
    stop_signal: str = ""
    _queues: dict[bool, deque[Task]] = field(
        default_factory=lambda: {False: deque(), True: deque()}
    )
    _unmet: dict[str, int] = field(default_factory=dict)
    _dependants: dict[str, list[Task]] = field(default_factory=dict)
    _takers: dict[str, int] = field(default_factory=dict)
    _running: dict[str, Task] = field(default_factory=dict)
    _handles: dict[str, Handle] = field(default_factory=dict)
    _held: dict[str, Record] = field(default_factory=dict)
    _failures: int = 0

    def execute(self) -> None:
        for key in self.todo:
            self._enqueue(self.plan.tasks[key])
        slots = self._slots()
        with stop_on_signals(self):
            while (self._queued or self._running) and not self.stop_signal:
                while self._queued and len(self._running) < slots:
                    self._start(self._next())
                for outcome in self.executor.wait(POLL_SECONDS):
                    self._take(outcome)
                self.watcher.tick()
                if self.fail_fast and self._failures:
                    self.stop_signal = "--fail-fast"

    def _enqueue(self, task: Task) -> None:
        unmet = [needed for needed in task.needs if needed in self.todo]
        for needed in unmet:
            self._dependants.setdefault(needed, []).append(task)
        for needed in task.needs:
            self._takers[needed] = self._takers.get(needed, 0) + 1
        if unmet:
            self._unmet[task.key] = len(unmet)
        else:
            self._queue(task)

    def _queue(self, task: Task) -> None:
        self._queues[task.kind in _LONG].append(task)

    @property
    def _queued(self) -> bool:
        return bool(self._queues[False] or self._queues[True])

    def _next(self) -> Task:
        """Simulations before evaluations, for they set traces free; else in plan order.

        What a task has just set free comes first, so that few hand-overs are held at a time.
        """
        return (self._queues[False] or self._queues[True]).popleft()

    def _slots(self) -> int:
        """Tasks in flight: all that fit, and a few more so that no worker waits for the driver."""
        have = self.executor.resources()
        least = min((need.cpus for need in self.needs.values()), default=1.0)
        return int(have.cpus / max(least, 0.1)) + 2

    def _start(self, task: Task) -> None:
        inputs = tuple(self._handle(needed) for needed in task.needs)
        self._running[task.key] = task
        self.watcher.started(task)
        self.executor.submit(task, self.needs[task.kind], inputs)

    def _handle(self, key: str) -> Handle:
        """What an earlier task handed over: of this run, or kept in the store."""
        if key not in self._handles:
            self._handles[key] = self.executor.put(self.store.load(key))
        return self._handles[key]

    def _take(self, outcome: Outcome) -> None:
        record = outcome.record
        task = self._running.pop(record.key)
        if record.status == "done":
            if self._takers.get(record.key):
                self._handles[record.key] = outcome.handle
            if task.kind in PERSISTED or (task.kind == "evaluate" and self.keep_traces):
                self._keep_handover(record.key, outcome.handle)
            self._free_dependants(task)
        else:
            self._failures += 1
            self._drop_dependants(task)
        self._write(record)
        self._let_go(task)
        self.watcher.ended(record)

    def _keep_handover(self, key: str, handle: Handle) -> None:
        value = self.executor.get(handle)
        if value is not None:
            self.store.save(key, value)

    def _free_dependants(self, task: Task) -> None:
        for dependant in reversed(self._dependants.get(task.key, [])):
            if dependant.key in self._unmet:
                self._unmet[dependant.key] -= 1
                if self._unmet[dependant.key] == 0:
                    del self._unmet[dependant.key]
                    self._queues[dependant.kind in _LONG].appendleft(dependant)

    def _drop_dependants(self, task: Task) -> None:
        """What needs a failed task cannot run; it has no record, so it is missing, not failed."""
        for dependant in self._dependants.get(task.key, ()):
            if self._unmet.pop(dependant.key, None) is not None:
                self._let_go(dependant)
                self.watcher.dropped(dependant)
                self._drop_dependants(dependant)

    def _write(self, record: Record) -> None:
        """To the store, unless others still need what the task handed over and nothing keeps it."""
        kept = record.kind in PERSISTED
        if record.status == "done" and self._takers.get(record.key) and not kept:
            self._held[record.key] = record
        else:
            self.store.add(record)

    def _let_go(self, task: Task) -> None:
        for needed in task.needs:
            self._takers[needed] -= 1
            if self._takers[needed] == 0:
                self._handles.pop(needed, None)
                if needed in self._held:
                    self.store.add(self._held.pop(needed))


@contextmanager
def stop_on_signals(run: Run) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the current wait, a second one at once.

    Installed after Ray has started, which puts its own handlers over earlier ones. A thread that is
    not the main one may install none: there the run takes no signals.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if run.stop_signal:
            raise KeyboardInterrupt
        run.stop_signal = signal.Signals(number).name

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
