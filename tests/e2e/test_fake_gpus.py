"""The hand-over to Ray: a cluster of this machine with two GPUs that are only numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.contracts import deeds
from sweep.errors import ResourceError
from sweep.execution import gpus
from sweep.execution.driver import Driver
from sweep.execution.ray_executor import RayExecutor
from sweep.execution.resources import Resources, needs_of
from sweep.execution.session import Session
from sweep.options import Options
from sweep.plan.plan import Plan
from sweep.spec import file as spec
from sweep.spec.entries import Sweep
from sweep.store.store import Store
from sweep.tasks.run import NO_CUDA
from sweep.tasks.task import KINDS, Record, Task
from tests.local_ray import local_ray

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL_KINDS = tuple(kind for kind in KINDS if kind != "simulate")


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    with local_ray(cpus=4, gpus=2):
        yield


def sweep_of(**changes: Any) -> Sweep:
    body = {
        "models": ["phi-3-medium"],
        "methods": [{"method": "dip", "density": 0.5}],
        "devices": [{"device": "apple-a18", "dram_gb": 4}],
        "resources": {"evaluate": {"memory_gb": 0}},
        **changes,
    }
    return spec.from_mapping({"sweeps": {"tiny": body}}).sweeps["tiny"]


class Quiet:
    """A watcher that is told everything and does nothing with it."""

    def started(self, task: Task) -> None: ...

    def ended(self, record: Record) -> None: ...

    def dropped(self, task: Task) -> None: ...

    def tick(self) -> None: ...


def ran(place: Path, executor: RayExecutor, needs: dict[str, Resources]) -> list[Record]:
    """Of four evaluations that meet in pairs, and a simulation of each."""
    tasks: dict[str, Task] = {}
    for number in range(4):
        pair = [f"evaluate {number - number % 2 + i}" for i in (0, 1)]
        more: dict[str, Any] = {"others": pair} if needs["evaluate"].gpus == 1 else {}
        do = "meet" if more else "add"
        first = deeds.make(f"evaluate {number}", place, do, number=1, inputs={}, **more)
        then = deeds.make(
            f"simulate {number}", place, "add", "simulate", inputs={"trace": first.key}
        )
        tasks |= {first.key: first, then.key: then}
    with Store(place / "store") as store:
        todo = dict.fromkeys(tasks, "new")
        Driver(Plan(tasks=tasks), todo, store, executor, needs, Quiet()).execute()
        return list(store.records.values())


@pytest.fixture
def executor(two_gpus: None) -> Iterator[RayExecutor]:
    made = RayExecutor()
    yield made
    made.close()


def test_each_task_has_a_gpu_and_simulations_have_none(
    executor: RayExecutor, tmp_path: Path
) -> None:
    """`gpu: auto` is one GPU; what its memory is, a GPU that is only a number does not say."""
    have, sweep = executor.resources(), sweep_of()
    assert (have.gpus, [node.gpu_gb for node in have.nodes]) == (2, [0.0])
    needs = needs_of(sweep, gpus.wanted(sweep, have), have)
    assert {needs[kind].gpus for kind in MODEL_KINDS} == {1}
    records = ran(tmp_path, executor, needs)
    assert {record.status for record in records} == {"done"}
    seen = {record.label: record.result.get("gpus", []) for record in records}
    alone = [seen[f"evaluate {number}"] for number in range(4)]
    assert sorted(map(str, alone)) == ["['0']", "['0']", "['1']", "['1']"]
    assert all(seen[f"simulate {number}"] == [] for number in range(4))
    logs = {record.kind: record.log for record in records}
    assert NO_CUDA in logs["evaluate"]
    assert NO_CUDA not in logs["simulate"]


def test_a_model_that_one_gpu_does_not_hold_gets_both(
    executor: RayExecutor, tmp_path: Path
) -> None:
    """Of 24 GB each, for 28.6 GB."""
    (node,) = executor._ray.nodes()
    executor._gpu_gb[node["NodeID"]] = 24.0
    have, sweep = executor.resources(), sweep_of(dtype="bfloat16")
    needs = needs_of(sweep, gpus.wanted(sweep, have), have)
    assert {kind: need.gpus for kind, need in needs.items()} == {
        **dict.fromkeys(MODEL_KINDS, 2),
        "simulate": 0,
    }
    records = ran(tmp_path, executor, needs)
    seen = {record.kind: record.result.get("gpus", []) for record in records}
    assert seen == {"evaluate": ["0", "1"], "simulate": []}


def test_what_no_machine_holds_is_refused_before_anything_runs(
    executor: RayExecutor, tmp_path: Path
) -> None:
    (node,) = executor._ray.nodes()
    executor._gpu_gb[node["NodeID"]] = 24.0
    asked = (
        ({}, "takes 57.1 GB of GPU memory in float32", "2 GPUs of 24.0 GB"),
        (
            {"dtype": "bfloat16", "resources": {"evaluate": {"gpu": 0.5, "memory_gb": 0}}},
            "",
            "12.0",
        ),
        (
            {"dtype": "bfloat16", "resources": {"evaluate": {"gpu": 1, "memory_gb": 0}}},
            "28.6",
            "one",
        ),
    )
    for changes, takes, room in asked:
        sweep = sweep_of(**changes)
        session = Session(sweep, Options(tmp_path / "out"), Console(file=io.StringIO()))
        session._executor = executor
        with pytest.raises(ResourceError) as caught:
            session.run(Plan(tasks={}), {}, Quiet())
        (line,) = str(caught.value).splitlines()
        assert takes in line
        assert room in line
        assert "what would help: " in line
        assert not session.store.records
