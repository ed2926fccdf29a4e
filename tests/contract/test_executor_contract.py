"""Every executor keeps the rules of `sweep.contracts.executors`; and workers that are lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sweep.contracts import executors
from sweep.contracts.executors import Trial, trial
from sweep.contracts.rules import ContractError, Rule
from sweep.execution.executor import RETRIES, Executor, Handle, InProcessExecutor, Outcome
from sweep.execution.ray_executor import RayExecutor
from sweep.execution.resources import Resources
from sweep.tasks import run as tasks
from sweep.tasks.task import Task

EXECUTORS = {"in process": InProcessExecutor, "ray": RayExecutor}


@pytest.mark.parametrize("rule", executors.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("where", EXECUTORS)
def test_every_executor_keeps_every_rule(
    where: str, rule: Rule[executors.Factory], request: pytest.FixtureRequest
) -> None:
    if where == "ray":
        request.getfixturevalue("ray_of_two")
    rule(EXECUTORS[where])


# -- rules tell ------------------------------------------------------------------------------


class Blind(InProcessExecutor):
    """Has no CPU that it knows of."""

    def resources(self) -> Resources:
        return Resources(cpus=0)


class Eager(InProcessExecutor):
    """Runs a task when it is submitted."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: deque[Outcome] = deque()

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None:
        self.ended.append(Outcome(*tasks.run(task, inputs, needs.device)))

    def wait(self, timeout: float) -> list[Outcome]:
        return [self.ended.popleft()] if self.ended else []


class Twice(InProcessExecutor):
    """Brings each task back twice."""

    def wait(self, timeout: float) -> list[Outcome]:
        return super().wait(timeout) * 2


class Stubborn(InProcessExecutor):
    """Tries a task that failed again."""

    def wait(self, timeout: float) -> list[Outcome]:
        first = self._waiting[0] if self._waiting else None
        outcomes = super().wait(timeout)
        if first and outcomes[0].record.status == "failed":
            self._waiting.appendleft(first)
            return super().wait(timeout)
        return outcomes


class Raising(InProcessExecutor):
    """Raises what a task raised."""

    def wait(self, timeout: float) -> list[Outcome]:
        outcomes = super().wait(timeout)
        for outcome in outcomes:
            if outcome.record.error:
                raise RuntimeError(outcome.record.error)
        return outcomes


class Sorting(InProcessExecutor):
    """Gives inputs in another order."""

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None:
        super().submit(task, needs, inputs[::-1])


class Losing(InProcessExecutor):
    """Keeps nothing of what a task hands over."""

    def wait(self, timeout: float) -> list[Outcome]:
        return [Outcome(outcome.record, None) for outcome in super().wait(timeout)]


class Lingering(InProcessExecutor):
    """Goes on after it was closed."""

    def close(self) -> None:
        pass


BROKEN = {
    Blind: (executors.it_says_where_and_what_it_has, "it has 0 CPUs"),
    Eager: (executors.submit_does_not_wait, "waited in vain"),
    Twice: (executors.each_task_comes_back_once, "came back"),
    Stubborn: (executors.a_failure_is_a_record, r"is \[2\], not \[1\]"),
    Raising: (executors.a_failure_is_a_record, "RuntimeError: ValueError: this task fails"),
    Sorting: (executors.inputs_keep_their_order, "'weights': 3"),
    Losing: (executors.hand_overs_go_by_handle, "second failed: TypeError"),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_an_executor_that_breaks_a_rule_is_told(
    kind: Callable[[], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.contracts.deeds.MEETING_SECONDS", 0.2)
    rule, how = BROKEN[kind]
    with pytest.raises(ContractError, match=how) as caught:
        rule(kind)
    assert str(caught.value).startswith(str(rule.__doc__).strip().rstrip("."))


def test_an_executor_that_goes_on_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(ContractError, match=r"After `close`.*: what comes back is"):
        executors.close_drops_what_has_not_ended(Lingering)


# -- workers that are lost, and time -----------------------------------------------------------


@pytest.fixture
def on_ray(ray_of_two: None) -> Iterator[Trial]:
    with trial(RayExecutor) as on:
        yield on


def test_the_timeout_of_wait_is_kept(on_ray: Trial) -> None:
    on_ray.submit(on_ray.task("slow", seconds=3.0))
    assert on_ray.executor.wait(0.05) == []
    assert len(on_ray.ended(1)) == 1


def test_tasks_run_side_by_side(on_ray: Trial) -> None:
    """Each waits until the other has begun, which one worker alone could never do."""
    names = ("left", "right")
    for name in names:
        on_ray.submit(on_ray.task(name, "meet", others=list(names)))
    assert [o.record.status for o in on_ray.ended(2)] == ["done", "done"]


def test_a_lost_worker_is_replaced_twice(on_ray: Trial) -> None:
    for task in (on_ray.task("unlucky", "die once", number=2), on_ray.task("deadly", "die")):
        on_ray.submit(task)
    records = {outcome.record.label: outcome.record for outcome in on_ray.ended(2)}
    assert (records["unlucky"].status, records["unlucky"].result["total"]) == ("done", 2)
    assert (records["deadly"].status, records["deadly"].infrastructure) == ("failed", True)
    assert "WorkerCrashed" in records["deadly"].error
    assert on_ray.begun("unlucky", "deadly") == [2, 1 + RETRIES]


def test_who_is_to_blame_is_known(on_ray: Trial) -> None:
    """A lost input is raised on the worker, as the task's own errors are."""
    from ray import exceptions

    task, executor = on_ray.task("one"), on_ray.executor
    assert isinstance(executor, RayExecutor)

    def raised(cause: Exception) -> Exception:
        return exceptions.RayTaskError("f", "the trace", cause).as_instanceof_cause()

    lost = exceptions.ObjectReconstructionFailedError("0" * 56, None, "")
    machine = [
        lost,
        raised(lost),
        exceptions.WorkerCrashedError(),
        exceptions.OutOfMemoryError("m"),
    ]
    records = [executor._failed(task, error) for error in machine]
    assert all(record.infrastructure for record in records)
    assert records[1].error.startswith("ObjectReconstructionFailedError: ")
    assert all(record.log for record in records)
    own = executor._failed(task, raised(ValueError("no")))
    assert (own.status, own.infrastructure) == ("failed", False)
    assert own.error.startswith("ValueError: ")


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from sweep.errors import ResourceError

    def refuse(**_: Any) -> None:
        raise ConnectionError("could not connect\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ResourceError, match=r"cannot attach to Ray at 10\.0\.0\.1:6379: could not"):
        RayExecutor("10.0.0.1:6379")
