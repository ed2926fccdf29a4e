"""The driver: each task once, in order, with what it needs; a failure or a stop loses little."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sweep.contracts import deeds as tasks
from sweep.execution.driver import Driver
from sweep.execution.executor import (
    RETRIES,
    ExecutorLostError,
    Handle,
    HandoverLostError,
    InProcessExecutor,
    Outcome,
)
from sweep.execution.resources import Resources
from sweep.plan.plan import Plan
from sweep.store.store import Store
from sweep.tasks import run as sweep_tasks
from sweep.tasks.task import KINDS, Record, Task

NEEDS: dict[str, Resources] = {kind: Resources(cpus=1) for kind in KINDS}


@dataclass
class Events:
    """A watcher that keeps what it is told."""

    began: list[str] = field(default_factory=list)
    ended_: list[str] = field(default_factory=list)
    dropped_: list[str] = field(default_factory=list)

    def started(self, task: Task) -> None:
        self.began.append(task.label)

    def ended(self, record: Record) -> None:
        self.ended_.append(record.label)

    def dropped(self, task: Task) -> None:
        self.dropped_.append(task.label)

    def tick(self) -> None:
        pass


class Counting(InProcessExecutor):
    """Counts values that are held for tasks, and how many tasks are submitted at once."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = self.submitted = self.most = 0

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None:
        super().submit(task, needs, inputs)
        self.submitted += 1
        self.most = max(self.most, self.submitted)

    def wait(self, timeout: float) -> list[Outcome]:
        found = super().wait(timeout)
        self.submitted -= len(found)
        return found

    def put(self, value: object) -> Handle:
        self.puts += 1
        return super().put(value)


@pytest.fixture(autouse=True)
def acting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_tasks, "_function", sweep_tasks._function)
    tasks.install()


@dataclass
class Work:
    """Tasks, and a store in a folder of the test."""

    place: Path
    made: dict[str, Task] = field(default_factory=dict)

    def task(self, name: str, kind: str = "evaluate", do: str = "add", **given: Task) -> Task:
        """A task that takes what the tasks given by role hand over."""
        inputs = {role: needed.key for role, needed in given.items()}
        task = tasks.make(name, self.place / "begun", do, kind, number=1, inputs=inputs)
        self.made[task.key] = task
        return task

    def run(self, todo: Iterable[Task] | None = None, **options: object) -> tuple[Driver, Events]:
        keys = [task.key for task in todo] if todo is not None else list(self.made)
        events = Events()
        with Store(self.place / "store") as store:
            plan = Plan(tasks=dict(self.made))
            run = Driver(plan, dict.fromkeys(keys, "new"), store, Counting(), NEEDS, events)
            for name, value in options.items():
                setattr(run, name, value)
            run.execute()
        return run, events

    @property
    def journal(self) -> list[str]:
        """Labels in the order in which they were written."""
        return [record.label for record in Store(self.place / "store").records.values()]

    def begun(self, name: str) -> int:
        return tasks.begun(name, self.place / "begun")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_every_task_is_done_once(work: Work) -> None:
    for n in range(20):
        work.task(f"task {n}")
    _, events = work.run()
    assert sorted(work.journal) == sorted(task.label for task in work.made.values())
    assert all(work.begun(f"task {n}") == 1 for n in range(20))
    assert Counter(events.began) == Counter(events.ended_)


def test_what_is_needed_comes_first_and_is_handed_over(work: Work) -> None:
    order = work.task("order", "calibrate")
    trace = work.task("trace", start=order)
    last = work.task("last", "simulate", trace=trace, start=order)
    work.run()
    store = Store(work.place / "store")
    assert store.records[last.key].result == {
        "total": 4,  # 1 of its own, 1 of the order, 2 of the trace
        "device": "cpu",
        "given": {"trace": 2, "start": 1},
    }


def test_simulations_go_before_evaluations(work: Work) -> None:
    """So that traces are let go early, and a killed run loses few of them."""
    for n in range(12):
        work.task(f"after {n}", "simulate", trace=work.task(f"trace {n}"))
    _, events = work.run()
    place = {name: i for i, name in enumerate(events.ended_)}
    in_flight = Counting().resources().cpus + 2
    assert all(place[f"after {n}"] - place[f"trace {n}"] <= in_flight for n in range(12))


def test_an_evaluation_is_written_when_its_simulations_have_ended(work: Work) -> None:
    trace = work.task("trace")
    for n in range(3):
        work.task(f"after {n}", "simulate", trace=trace)
    work.run()
    assert work.journal == ["after 0", "after 1", "after 2", "trace"]


def test_no_more_is_in_flight_than_fits_and_a_few(work: Work) -> None:
    for n in range(30):
        work.task(f"task {n}")
    run, _ = work.run()
    assert isinstance(run.executor, Counting)
    assert run.executor.most <= run.executor.resources().cpus + 2


def test_a_failure_drops_what_needs_it_and_nothing_else(work: Work) -> None:
    bad = work.task("bad", do="raise")
    lost = work.task("lost", "simulate", trace=bad)
    work.task("good")
    _, events = work.run()
    assert sorted(work.journal) == ["bad", "good"]
    assert events.dropped_ == ["lost"]
    assert work.begun(lost.label) == 0
    record = Store(work.place / "store").records[bad.key]
    assert (record.status, record.error) == ("failed", "ValueError: this task fails by itself")


def test_a_failure_is_passed_on_through_all_that_wait(work: Work) -> None:
    bad = work.task("bad", "calibrate", do="raise")
    trace = work.task("trace", start=bad)
    work.task("last", "simulate", trace=trace, start=bad)
    other = work.task("other")
    work.task("shared", "simulate", trace=other, start=bad)
    _, events = work.run()
    assert sorted(work.journal) == ["bad", "other"]
    assert Counter(events.dropped_) == Counter(["trace", "last", "shared"])


def test_a_failed_simulation_does_not_take_its_trace_along(work: Work) -> None:
    trace = work.task("trace")
    work.task("bad", "simulate", do="raise", trace=trace)
    work.task("good", "simulate", trace=trace)
    work.run()
    store = Store(work.place / "store")
    assert {record.label: record.status for record in store.records.values()} == {
        "bad": "failed",
        "good": "done",
        "trace": "done",
    }


def test_fail_fast_stops_at_the_first_failure(work: Work) -> None:
    work.task("bad", do="raise")
    for n in range(20):
        work.task(f"task {n}")
    run, _ = work.run(fail_fast=True)
    assert run.stopped_by == "--fail-fast"
    assert work.journal == ["bad"]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_keeps_what_is_done(work: Work, by: signal.Signals) -> None:
    names = [f"task {n}" for n in range(8)]
    for name in names:
        work.task(name)
    handlers = signal.getsignal(by)

    class Interrupting(Events):
        def ended(self, record: Record) -> None:
            super().ended(record)
            if len(self.ended_) == 3:
                os.kill(os.getpid(), by)

    with Store(work.place / "store") as store:
        todo = dict.fromkeys(work.made, "new")
        run = Driver(Plan(tasks=work.made), todo, store, Counting(), NEEDS, Interrupting())
        run.execute()
    assert run.stopped_by == by.name
    assert work.journal == names[:3]
    assert signal.getsignal(by) is handlers
    work.run([task for task in work.made.values() if task.label not in names[:3]])
    assert sorted(work.journal) == names
    assert all(work.begun(name) == 1 for name in names)


def test_a_second_interrupt_does_not_wait(work: Work) -> None:
    work.task("one")
    before = signal.getsignal(signal.SIGINT)

    class Impatient(Events):
        def ended(self, record: Record) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    todo = dict.fromkeys(work.made, "new")
    with Store(work.place / "store") as store:
        run = Driver(Plan(tasks=work.made), todo, store, Counting(), NEEDS, Impatient())
        with pytest.raises(KeyboardInterrupt):
            run.execute()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_a_thread_takes_no_signals(work: Work) -> None:
    """As in a notebook's or a server's thread, where Python lets nobody install handlers."""
    work.task("one")
    thread = threading.Thread(target=work.run)
    thread.start()
    thread.join()
    assert work.journal == ["one"]


def test_what_prepares_is_kept_and_traces_only_on_demand(work: Work) -> None:
    order, trace = work.task("order", "calibrate"), work.task("trace")
    work.task("after", "simulate", trace=trace, start=order)
    work.run()
    store = Store(work.place / "store")
    assert store.keeps(order.key)
    assert not store.keeps(trace.key)


def test_kept_traces_serve_later_simulations(work: Work) -> None:
    trace = work.task("trace")
    work.run(traces_bytes=math.inf)
    later = [work.task(f"later {n}", "simulate", trace=trace) for n in range(3)]
    run, _ = work.run(later)
    assert work.begun("trace") == 1
    assert [work.begun(task.label) for task in later] == [1, 1, 1]
    assert isinstance(run.executor, Counting)
    assert run.executor.puts == 1


def test_what_nobody_needs_any_more_is_let_go(work: Work) -> None:
    """Hand-overs live in Ray's object store: none may stay there to the end of the run."""
    order, trace = work.task("order", "calibrate"), work.task("trace")
    work.task("after", "simulate", trace=trace, start=order)
    work.task("alone")
    run, _ = work.run()
    assert run._handles == {}
    assert run._held == {}


def test_what_the_machine_failed_is_tried_again_a_few_times(work: Work) -> None:
    task = work.task("hungry", do="exhaust")
    after = work.task("after", "simulate", trace=task)
    _, events = work.run()
    assert work.begun("hungry") == 1 + RETRIES
    record = Store(work.place / "store").records[task.key]
    assert (record.status, record.infrastructure) == ("failed", True)
    assert "MemoryError" in record.log
    assert events.dropped_ == [after.label]
    assert work.journal == ["hungry"]


def test_an_error_of_its_own_is_tried_once(work: Work) -> None:
    work.task("bad", do="raise")
    work.run()
    assert work.begun("bad") == 1


class Losing(Counting):
    """Loses what tasks hand over, or itself after some tasks."""

    left: int | None = None

    def get(self, handle: Handle) -> object:
        raise HandoverLostError("ObjectLostError: what it handed over is lost")

    def wait(self, timeout: float) -> list[Outcome]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise ExecutorLostError("the loss of the head")
        return super().wait(timeout)


def test_a_hand_over_that_is_lost_is_the_machines_fault(work: Work) -> None:
    order = work.task("order", "calibrate")
    work.task("after", "simulate", start=order)
    _, events = work.run(executor=Losing())
    record = Store(work.place / "store").records[order.key]
    assert (record.status, record.infrastructure) == ("failed", True)
    assert record.error == "ObjectLostError: what it handed over is lost"
    assert events.dropped_ == ["after"]


def test_a_lost_cluster_stops_the_run_and_keeps_what_is_done(work: Work) -> None:
    names = [f"task {n}" for n in range(6)]
    for name in names:
        work.task(name)
    losing = Losing()
    losing.left = 3
    run, _ = work.run(executor=losing)
    assert run.stopped_by == "the loss of the head"
    assert work.journal == names[:3]
