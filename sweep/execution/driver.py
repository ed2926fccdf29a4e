"""The driver: takes what is missing of a plan through an executor into the store."""

from __future__ import annotations

import heapq
import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from sweep.execution.executor import (
    RETRIES,
    Executor,
    ExecutorLostError,
    Handle,
    HandoverLostError,
    Outcome,
)
from sweep.execution.resources import Resources
from sweep.execution.schedule import Rank
from sweep.plan.plan import Plan
from sweep.store.store import Store
from sweep.store.traces import TraceRoom
from sweep.tasks.task import PERSISTED, Record, Task

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""How long tasks in flight may go on after the time that a run was given."""
BACKLOG = 8
"""Simulations that may wait for each CPU before GPUs make no more traces."""
_SHORT = ("simulate",)
"""Kinds that go before those that run a model."""


class Watcher(Protocol):
    """Is told what happens in a run; the progress display is one."""

    def started(self, task: Task) -> None: ...

    def ended(self, record: Record) -> None: ...

    def dropped(self, task: Task) -> None: ...

    def tick(self) -> None: ...


@dataclass(slots=True)
class Driver:
    """One pass over the missing tasks. `execute` returns when all ended or a stop was asked for.

    An evaluation whose trace is not kept is written to the store when the simulations of its trace
    have ended, so that a killed run loses the shards in flight and no finished task is ever done
    twice.
    """

    plan: Plan
    todo: dict[str, str]
    store: Store
    executor: Executor
    needs: dict[str, Resources]
    watcher: Watcher
    traces_bytes: float = 0.0
    """How much disk the traces of the store may take; kept ones evaluate nothing again."""
    fail_fast: bool = False
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    """The order of what runs a model; that of the plan where none is given."""
    deadline: float = math.inf
    """On the clock of `time.monotonic`: no task that runs a model starts after it."""
    stopped_by: str = ""
    """What ended the run early: a signal, --fail-fast or --max-hours."""
    _short: deque[Task] = field(default_factory=deque)
    _long: list[tuple[tuple[float, ...], Task]] = field(default_factory=list)
    """A heap. Of a stage and model, what was set free comes before the rest, the last first."""
    _entered: int = 0
    _slots: Mapping[str, int] = field(default_factory=dict)
    _in_flight: Counter[str] = field(default_factory=Counter)
    _unmet: dict[str, int] = field(default_factory=dict)
    _dependants: dict[str, list[Task]] = field(default_factory=dict)
    _takers: dict[str, int] = field(default_factory=dict)
    _running: dict[str, Task] = field(default_factory=dict)
    _handles: dict[str, Handle] = field(default_factory=dict)
    _held: dict[str, Record] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _failures: int = 0
    _kept_traces: set[str] = field(default_factory=set)
    _room: TraceRoom | None = None

    def execute(self) -> None:
        self._room = TraceRoom(self.store, self.traces_bytes, self.plan.tasks.keys())
        for key in self.todo:
            self._enqueue(self.plan.tasks[key])
        self._slots = self._counted_slots()
        with stop_on_signals(self):
            while (self._queued or self._running) and not self.stopped_by:
                while (task := self._next()) is not None:
                    self._start(task)
                if self._is_over():
                    break
                self._take_all()
                self.watcher.tick()
                if self.fail_fast and self._failures:
                    self.stopped_by = "--fail-fast"

    def _is_over(self) -> bool:
        """Whether the time is up and nothing is worth waiting for: some tasks were not begun."""
        late = time.monotonic() - self.deadline
        if late >= GRACE_SECONDS or (late >= 0 and not self._running):
            self.stopped_by = "--max-hours"
        return bool(self.stopped_by)

    def _take_all(self) -> None:
        try:
            for outcome in self.executor.wait(POLL_SECONDS):
                self._take(outcome)
        except ExecutorLostError as lost:
            self.stopped_by = str(lost)

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

    def _queue(self, task: Task, freed: bool = False) -> None:
        if task.kind in _SHORT:
            (self._short.appendleft if freed else self._short.append)(task)
            return
        rank = self.ranks.get(task.key, Rank())
        self._entered += 1
        order = (0, -self._entered) if freed else (1, rank.effort, self._entered)
        heapq.heappush(self._long, ((rank.priority, rank.stage, rank.model, *order), task))

    @property
    def _queued(self) -> bool:
        return bool(self._short or self._long)

    def _next(self) -> Task | None:
        """Simulations before what runs a model, for they set traces free; then by rank.

        What a task has just set free comes first of its stage and model, so that few hand-overs are
        held at a time. Where
        models run on GPUs, these go on while simulations wait for CPUs, unless too many wait.
        """
        if self._short and self._has_room(self._short[0]):
            return self._short.popleft()
        if not self._long or time.monotonic() >= self.deadline:
            return None
        task = self._long[0][1]
        apart = self._lane(task) != "cpu"
        waiting = BACKLOG * self._slots["cpu"] if apart else 0
        if len(self._short) > waiting or not self._has_room(task):
            return None
        return heapq.heappop(self._long)[1]

    def _lane(self, task: Task) -> str:
        """Which of the machine's parts a task waits for."""
        return "gpu" if self.needs[task.kind].gpus else "cpu"

    def _has_room(self, task: Task) -> bool:
        lane = self._lane(task)
        return self._in_flight[lane] < self._slots[lane]

    def _counted_slots(self) -> dict[str, int]:
        """Tasks in flight: all that fit, and a few more so that no worker waits for the driver."""
        have = self.executor.resources()
        on_cpu = [need.cpus for need in self.needs.values() if not need.gpus]
        on_gpu = [need.gpus for need in self.needs.values() if need.gpus]
        return {
            "cpu": int(have.cpus / max(min(on_cpu, default=1.0), 0.1)) + 2,
            "gpu": int(have.gpus / max(min(on_gpu, default=1.0), 0.01)) + 2,
        }

    def _start(self, task: Task) -> None:
        inputs = tuple(self._handle(needed) for needed in task.needs)
        self._running[task.key] = task
        self._in_flight[self._lane(task)] += 1
        self.watcher.started(task)
        self.executor.submit(task, self.needs[task.kind], inputs)

    def _handle(self, key: str) -> Handle:
        """What an earlier task handed over: of this run, or kept in the store."""
        if key not in self._handles:
            self._handles[key] = self.executor.put(self.store.load(key))
        return self._handles[key]

    def _take(self, outcome: Outcome) -> None:
        task = self._running.pop(outcome.record.key)
        self._in_flight[self._lane(task)] -= 1
        if self._again(outcome.record):
            self._queue(task)
            return
        record = self._kept(task, outcome)
        if record.status == "done":
            if self._takers.get(record.key):
                self._handles[record.key] = outcome.handle
            self._free_dependants(task)
        else:
            self._failures += 1
            self._drop_dependants(task)
        self._write(record)
        self._let_go(task)
        self.watcher.ended(record)

    def _again(self, record: Record) -> bool:
        """Whether to run a task once more: its worker lived, but lacked memory or disk.

        An executor itself repeats what was lost with a worker; such a record names none.
        """
        if not (record.infrastructure and record.worker):
            return False
        self._tries[record.key] = self._tries.get(record.key, 0) + 1
        return self._tries[record.key] <= RETRIES

    def _kept(self, task: Task, outcome: Outcome) -> Record:
        """The record, after its hand-over is in the store where it has to be."""
        record = outcome.record
        if record.status == "done" and task.kind == "evaluate":
            self._keep_trace(record.key, outcome.handle)
        if record.status != "done" or task.kind not in PERSISTED:
            return record
        try:
            value = self.executor.get(outcome.handle)
        except HandoverLostError as lost:
            return replace(record, status="failed", infrastructure=True, error=str(lost))
        if value is not None:
            self.store.save(record.key, value)
        return record

    def _keep_trace(self, key: str, handle: Handle) -> None:
        """In the store, where there is room; a trace that was lost on its way is not needed yet."""
        assert self._room is not None
        if self._room.full:
            return
        with suppress(HandoverLostError):
            if self._room.keep(key, self.executor.get(handle)):
                self._kept_traces.add(key)

    def _free_dependants(self, task: Task) -> None:
        for dependant in reversed(self._dependants.get(task.key, [])):
            if dependant.key in self._unmet:
                self._unmet[dependant.key] -= 1
                if self._unmet[dependant.key] == 0:
                    del self._unmet[dependant.key]
                    self._queue(dependant, freed=True)

    def _drop_dependants(self, task: Task) -> None:
        """What needs a failed task cannot run; it has no record, so it is missing, not failed."""
        for dependant in self._dependants.get(task.key, ()):
            if self._unmet.pop(dependant.key, None) is not None:
                self._let_go(dependant)
                self.watcher.dropped(dependant)
                self._drop_dependants(dependant)

    def _write(self, record: Record) -> None:
        """To the store, unless others still need what the task handed over and nothing keeps it."""
        lasting = record.kind in PERSISTED or record.key in self._kept_traces
        if record.status == "done" and self._takers.get(record.key) and not lasting:
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
def stop_on_signals(driver: Driver) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the current wait, a second one at once.

    Installed after Ray has started, which puts its own handlers over earlier ones. A thread that is
    not the main one may install none: there the run takes no signals.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if driver.stopped_by:
            raise KeyboardInterrupt
        driver.stopped_by = signal.Signals(number).name

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
