"""What every executor keeps: each task once, failures as records, hand-overs by handle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sweep.execution.executor import Executor, InProcessExecutor, Outcome
from sweep.execution.ray_executor import RETRIES, RayExecutor
from sweep.execution.resources import Resources
from sweep.tasks import run as sweep_tasks
from sweep.tasks.run import Task
from tests.contract import tasks

ONE = Resources(cpus=1)


@pytest.fixture(params=["in process", "ray"])
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    monkeypatch.setattr(sweep_tasks, "_function", sweep_tasks._function)
    tasks.install()
    if request.param == "ray":
        request.getfixturevalue("ray_of_two")
    made = RayExecutor() if request.param == "ray" else InProcessExecutor()
    yield made
    made.close()


@pytest.fixture
def on_ray(ray_of_two: None) -> Iterator[RayExecutor]:
    made = RayExecutor()
    yield made
    made.close()


def ended(executor: Executor, count: int, seconds: float = 60) -> list[Outcome]:
    """The next outcomes, waited for."""
    until, found = time.monotonic() + seconds, []
    while len(found) < count and time.monotonic() < until:
        found += executor.wait(0.5)
    return found


def done(executor: Executor, task: Task, *inputs: object) -> Outcome:
    executor.submit(task, ONE, inputs)
    (outcome,) = ended(executor, 1)
    return outcome


def test_there_is_a_cpu(executor: Executor) -> None:
    assert executor.resources().cpus >= 1
    assert executor.where


def test_nothing_submitted_is_nothing_to_wait_for(executor: Executor) -> None:
    assert executor.wait(5.0) == []


def test_a_task_comes_back_with_its_result(executor: Executor, tmp_path: Path) -> None:
    task = tasks.make("one", tmp_path, number=7)
    record = done(executor, task).record
    assert (record.key, record.kind, record.label) == (task.key, "evaluate", "one")
    assert (record.status, record.error, record.infrastructure) == ("done", "", False)
    assert record.payload == task.payload
    assert record.result == {"total": 7, "device": "cpu", "roles": []}
    assert record.seconds > 0
    assert record.worker


def test_each_task_comes_back_once(executor: Executor, tmp_path: Path) -> None:
    every = [tasks.make(f"task {n}", tmp_path, number=n) for n in range(9)]
    for task in every:
        executor.submit(task, ONE, ())
    outcomes = ended(executor, len(every))
    assert sorted(o.record.key for o in outcomes) == sorted(task.key for task in every)
    assert {o.record.result["total"] for o in outcomes} == set(range(9))
    assert executor.wait(0.1) == []
    assert [tasks.begun(task.label, tmp_path) for task in every] == [1] * 9


def test_a_failure_is_a_record_and_is_not_tried_again(executor: Executor, tmp_path: Path) -> None:
    outcome = done(executor, tasks.make("bad", tmp_path, do="raise"))
    assert outcome.record.status == "failed"
    assert outcome.record.error == "ValueError: this task fails by itself"
    assert "Traceback" in outcome.record.log
    assert not outcome.record.infrastructure
    assert outcome.record.result == {}
    assert tasks.begun("bad", tmp_path) == 1
    assert done(executor, tasks.make("good", tmp_path)).record.status == "done"


def test_a_lack_of_memory_is_the_machines_fault(executor: Executor, tmp_path: Path) -> None:
    record = done(executor, tasks.make("big", tmp_path, do="exhaust")).record
    assert record.status == "failed"
    assert record.infrastructure


def test_what_a_task_prints_is_in_its_log(executor: Executor, tmp_path: Path) -> None:
    record = done(executor, tasks.make("talker", tmp_path, do="print")).record
    assert record.log == "a line of its own\n"
    assert done(executor, tasks.make("quiet", tmp_path)).record.log == ""


def test_hand_overs_go_from_task_to_task_by_handle(executor: Executor, tmp_path: Path) -> None:
    first = tasks.make("first", tmp_path, number=3)
    given = done(executor, first)
    second = tasks.make("second", tmp_path, number=1, inputs={"trace": first.key})
    outcome = done(executor, second, given.handle)
    assert outcome.record.result == {"total": 4, "device": "cpu", "roles": ["trace"]}
    assert executor.get(outcome.handle)["numbers"].tolist() == [4]


def test_a_value_can_be_put_in(executor: Executor, tmp_path: Path) -> None:
    handle = executor.put({"numbers": np.array([5, 6])})
    assert executor.get(handle)["numbers"].tolist() == [5, 6]
    taker = tasks.make("taker", tmp_path, inputs={"start": "elsewhere"})
    assert done(executor, taker, handle).record.result["total"] == 11


def test_inputs_must_be_those_of_the_roles(executor: Executor, tmp_path: Path) -> None:
    taker = tasks.make("taker", tmp_path, inputs={"start": "elsewhere"})
    assert done(executor, taker).record.status == "failed"


def test_the_timeout_of_wait_is_kept(on_ray: RayExecutor, tmp_path: Path) -> None:
    on_ray.submit(tasks.make("slow", tmp_path, seconds=3.0), ONE, ())
    assert on_ray.wait(0.05) == []
    assert len(ended(on_ray, 1)) == 1


def test_tasks_run_side_by_side(on_ray: RayExecutor, tmp_path: Path) -> None:
    """Each waits until the other has begun, which one worker alone could never do."""
    names = ("left", "right")
    for name in names:
        on_ray.submit(tasks.make(name, tmp_path, do="meet", others=list(names)), ONE, ())
    assert [o.record.status for o in ended(on_ray, 2)] == ["done", "done"]


def test_a_lost_worker_is_replaced_twice(on_ray: RayExecutor, tmp_path: Path) -> None:
    unlucky = tasks.make("unlucky", tmp_path, do="die once", number=2)
    deadly = tasks.make("deadly", tmp_path, do="die")
    for task in (unlucky, deadly):
        on_ray.submit(task, ONE, ())
    found = {outcome.record.label: outcome.record for outcome in ended(on_ray, 2)}
    assert (found["unlucky"].status, found["unlucky"].result["total"]) == ("done", 2)
    assert tasks.begun("unlucky", tmp_path) == 2
    assert (found["deadly"].status, found["deadly"].infrastructure) == ("failed", True)
    assert "WorkerCrashed" in found["deadly"].error
    assert tasks.begun("deadly", tmp_path) == 1 + RETRIES


def test_who_is_to_blame_is_known(on_ray: RayExecutor, tmp_path: Path) -> None:
    """A lost input is raised on the worker, as the task's own errors are."""
    from ray import exceptions

    task = tasks.make("one", tmp_path)

    def raised(cause: Exception) -> Exception:
        return exceptions.RayTaskError("f", "the trace", cause).as_instanceof_cause()

    lost = exceptions.ObjectReconstructionFailedError("0" * 56, None, "")
    machine = [
        lost,
        raised(lost),
        exceptions.WorkerCrashedError(),
        exceptions.OutOfMemoryError("m"),
    ]
    records = [on_ray._failed(task, error) for error in machine]
    assert all(record.infrastructure for record in records)
    assert records[1].error.startswith("ObjectReconstructionFailedError: ")
    assert all(record.log for record in records)
    own = on_ray._failed(task, raised(ValueError("no")))
    assert (own.status, own.infrastructure) == ("failed", False)
    assert own.error.startswith("ValueError: ")


def test_close_drops_what_has_not_ended(executor: Executor, tmp_path: Path) -> None:
    for n in range(6):
        executor.submit(tasks.make(f"long {n}", tmp_path, seconds=30.0), ONE, ())
    executor.close()
    assert executor.wait(0.1) == []
    assert sum(tasks.begun(f"long {n}", tmp_path) for n in range(6)) < 6


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from sweep.errors import ResourceError

    def refuse(**_: object) -> None:
        raise ConnectionError("could not connect\nand more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ResourceError, match=r"cannot attach to Ray at 10\.0\.0\.1:6379: could not"):
        RayExecutor("10.0.0.1:6379")
