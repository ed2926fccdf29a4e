"""The contract of an executor: each task once, failures as records, hand-overs by handle.

    for rule in executors.RULES:
        rule(MyExecutor)

A rule takes a factory, opens an executor, gives it small tasks (`sweep.contracts.deeds`, which
its workers have to install) and closes it. Workers must see this machine's folder for temporary
files: there they leave a mark each time they begin a task.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sweep.contracts import deeds
from sweep.contracts.rules import Rule, equal, need, rule
from sweep.execution.executor import Executor, Handle, Outcome
from sweep.execution.resources import Resources
from sweep.tasks.task import Task

Factory: TypeAlias = Callable[[], Executor]

ONE = Resources(cpus=1)
TASK_SECONDS = 60.0
"""How long a task may take to come back."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An executor, and a folder where its tasks leave marks."""

    executor: Executor
    place: Path

    def task(self, name: str, do: str = "add", **payload: Any) -> Task:
        return deeds.make(name, self.place, do, **payload)

    def submit(self, task: Task, *inputs: Handle) -> None:
        self.executor.submit(task, ONE, inputs)

    def ended(self, count: int, seconds: float = TASK_SECONDS) -> list[Outcome]:
        """The next outcomes, waited for."""
        outcomes: list[Outcome] = []
        until = time.monotonic() + seconds
        while len(outcomes) < count and time.monotonic() < until:
            outcomes += self.executor.wait(0.5)
        need(
            len(outcomes) == count,
            f"of {count} tasks {len(outcomes)} came back within {seconds:g} s",
        )
        return outcomes

    def done(self, task: Task, *inputs: Handle) -> Outcome:
        """The outcome of a task that is submitted alone."""
        self.submit(task, *inputs)
        return self.ended(1)[0]

    def total(self, task: Task, *inputs: Handle) -> tuple[int, Outcome]:
        """What the task adds up to, which must end well."""
        outcome = self.done(task, *inputs)
        need(outcome.record.status == "done", f"{task.label} failed: {outcome.record.error}")
        return outcome.record.result["total"], outcome

    def begun(self, *names: str) -> list[int]:
        return [deeds.begun(name, self.place) for name in names]


@contextmanager
def trial(make: Factory) -> Iterator[Trial]:
    """An executor that is closed afterwards."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        deeds.installed(),
    ):
        executor = make()
        try:
            yield Trial(executor, Path(folder))
        finally:
            executor.close()


@rule
def it_says_where_and_what_it_has(make: Factory) -> None:
    """It says where tasks run, and that there is a CPU."""
    with trial(make) as on:
        need(bool(on.executor.where), "`where` is empty")
        cpus = on.executor.resources().cpus
        need(cpus >= 1, f"it has {cpus:g} CPUs")


@rule
def without_tasks_wait_returns_at_once(make: Factory) -> None:
    """Nothing submitted is nothing to wait for."""
    with trial(make) as on:
        started = time.monotonic()
        equal(on.executor.wait(10.0), [], "what `wait` returns")
        need(time.monotonic() - started < 9, "`wait` used up its timeout")


@rule
def submit_does_not_wait(make: Factory) -> None:
    """`submit` returns before the task has ended."""
    with trial(make) as on:
        on.submit(on.task("patient", "meet", others=["who submits"]))
        deeds.begin("who submits", on.place)  # a task that ran inside `submit` never saw this
        (outcome,) = on.ended(1)
        need(outcome.record.status == "done", f"a task waited in vain: {outcome.record.error}")


@rule
def a_task_comes_back_with_its_result(make: Factory) -> None:
    """A record says what the task was and what came of it."""
    with trial(make) as on:
        task = on.task("one", number=7)
        record = on.done(task).record
        equal(record.error, "", "the error (deeds.install in the workers?)")
        for name in ("key", "kind", "label", "payload"):
            equal(getattr(record, name), getattr(task, name), f"`{name}` of the record")
        equal((record.status, record.infrastructure), ("done", False), "what became of it")
        equal(record.result, {"total": 7, "device": "cpu", "given": {}}, "the result")
        need(record.seconds > 0, f"it took {record.seconds} s")
        need(bool(record.worker), "`worker` is empty")


@rule
def each_task_comes_back_once(make: Factory) -> None:
    """Each of many tasks is run once and comes back once."""
    with trial(make) as on:
        every = [on.task(f"task {number}", number=number) for number in range(9)]
        for task in every:
            on.submit(task)
        records = [outcome.record for outcome in on.ended(len(every))]
        numbers = {task.key: task.payload["number"] for task in every}
        equal({r.key: r.result.get("total") for r in records}, numbers, "what came back")
        equal(on.executor.wait(0.1), [], "what comes back after that")
        equal(on.begun(*(task.label for task in every)), [1] * 9, "how often each was begun")


@rule
def a_failure_is_a_record(make: Factory) -> None:
    """A task that raises is a failed record, is not tried again, and others go on."""
    with trial(make) as on:
        outcome = on.done(on.task("bad", "raise"))
        record = outcome.record
        equal((record.status, record.result), ("failed", {}), "what became of it")
        equal(record.error, "ValueError: this task fails by itself", "the error")
        need("Traceback" in record.log, f"the log has no traceback: {record.log!r}")
        need(not record.infrastructure, "it is put down to the machine")
        equal(on.begun("bad"), [1], "how often it was begun")
        equal(on.done(on.task("good")).record.status, "done", "the next task")


@rule
def a_lack_of_memory_is_the_machines_fault(make: Factory) -> None:
    """A task that runs out of memory has failed through the machine."""
    with trial(make) as on:
        record = on.done(on.task("big", "exhaust")).record
        equal((record.status, record.infrastructure), ("failed", True), "what became of it")


@rule
def what_a_task_prints_is_its_log(make: Factory) -> None:
    """What a task prints is in its own log and in no other."""
    with trial(make) as on:
        equal(on.done(on.task("talker", "print")).record.log, "a line of its own\n", "the log")
        equal(on.done(on.task("quiet")).record.log, "", "the log of the next")


@rule
def hand_overs_go_by_handle(make: Factory) -> None:
    """What a task hands over reaches the next task, and `get`, by its handle."""
    with trial(make) as on:
        first = on.task("first", number=3)
        _, handed_over = on.total(first)
        second = on.task("second", number=1, inputs={"trace": first.key})
        total, outcome = on.total(second, handed_over.handle)
        equal(total, 4, "3 that was handed over and 1")
        equal(on.executor.get(outcome.handle)["numbers"].tolist(), [4], "what `get` returns")


@rule
def a_value_can_be_put_in(make: Factory) -> None:
    """A value that was `put` is an input like any other, as often as it is wanted."""
    with trial(make) as on:
        handle = on.executor.put({"numbers": np.array([5, 6])})
        for name in ("taker", "another"):
            total, _ = on.total(on.task(name, inputs={"start": "elsewhere"}), handle)
            equal(total, 11, f"5 and 6, given to {name},")
        equal(on.executor.get(handle)["numbers"].tolist(), [5, 6], "what `get` returns")


@rule
def inputs_keep_their_order(make: Factory) -> None:
    """Inputs go to the roles of the payload in the order in which both are written."""
    with trial(make) as on:
        handles = [on.executor.put({"numbers": np.array([number])}) for number in (1, 2, 3)]
        roles = dict.fromkeys(("weights", "start", "trained"), "elsewhere")
        record = on.done(on.task("taker", inputs=roles), *handles).record
        expected = {"weights": 1, "start": 2, "trained": 3}
        equal(record.result.get("given"), expected, "what each role was given")


@rule
def inputs_must_be_those_of_the_roles(make: Factory) -> None:
    """A task without the inputs of its roles has failed."""
    with trial(make) as on:
        record = on.done(on.task("taker", inputs={"start": "elsewhere"})).record
        equal(record.status, "failed", "what became of it")


@rule
def close_drops_what_has_not_ended(make: Factory) -> None:
    """After `close`, which may come twice, nothing comes back and nothing more is begun."""
    with trial(make) as on:
        names = [f"long {number}" for number in range(2 * int(on.executor.resources().cpus) + 4)]
        for name in names:
            on.submit(on.task(name, seconds=30.0))
        started = time.monotonic()
        on.executor.close()
        need(time.monotonic() - started < 25, "`close` waited for tasks")
        equal(on.executor.wait(0.1), [], "what comes back")
        need(0 in on.begun(*names), "all tasks were begun")


RULES: tuple[Rule[Factory], ...] = (
    it_says_where_and_what_it_has,
    without_tasks_wait_returns_at_once,
    submit_does_not_wait,
    a_task_comes_back_with_its_result,
    each_task_comes_back_once,
    a_failure_is_a_record,
    a_lack_of_memory_is_the_machines_fault,
    what_a_task_prints_is_its_log,
    hand_overs_go_by_handle,
    a_value_can_be_put_in,
    inputs_keep_their_order,
    inputs_must_be_those_of_the_roles,
    close_drops_what_has_not_ended,
)
