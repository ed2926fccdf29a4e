"""From points to the fewest tasks: what enters a key, what vanishes, and why a task runs."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.execution.missing import missing
from sweep.keys import digest
from sweep.plan import code
from sweep.plan.plan import Plan, PlannedPoint
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.spec import file as spec
from sweep.store.store import Store
from sweep.tasks.task import Record, Task

DEVICE = {"device": "apple-a18", "dram_gb": 4, "flash_gbps": 1, "dram_gbps": 60}
BASE: dict[str, Any] = {
    "models": ["phi-3-medium"],  # sizes are built in; weights and text are not present
    "methods": [{"method": "dip", "density": 0.5}],
    "devices": [DEVICE],
    "policies": "lfu",
    "text": "wikitext2",
    "windows": 2,
    "shard_windows": 1,
}


def planned(**changes: Any) -> SweepPlan:
    sweep = {**copy.deepcopy(BASE), **changes}
    return plan_sweep(spec.from_mapping({"sweeps": {"s": sweep}}).sweeps["s"])


def plan(**changes: Any) -> Plan:
    return planned(**changes).plan


def keys_of(made: Plan, kind: str) -> set[str]:
    return {task.key for task in made.tasks.values() if task.kind == kind}


def aware(**changes: Any) -> Plan:
    return plan(**{"methods": [{"method": "dip", "density": 0.5, "gamma": 0.2}], **changes})


# -- counts ----------------------------------------------------------------------------------


def test_a_small_grid_becomes_the_tasks_counted_by_hand() -> None:
    made = plan(
        methods=[
            "dense",
            {"method": "glu", "density": [0.7, 0.8]},
            {"method": "dip", "density": [0.5, 0.7]},
            {"method": "dip", "density": 0.5, "gamma": [0.2, 0.5]},
        ],
        devices=[{**DEVICE, "dram_gb": [4, 6], "flash_gbps": [0.5, 1, 2]}],
        policies=["lfu", "lru", "belady"],
    )
    devices, policies, shards = 6, 3, 2
    # What glu leaves dense fills 4 GB: nothing is cached there, and three policies are one point.
    glu = 2 * 3 * policies + 2 * 3 * 1
    points = devices + glu + 2 * devices * policies + 2 * devices * 2
    assert len(made.points) == points
    assert made.counts() == {
        "calibrate": 0,
        "transform": 0,
        "train": 0,
        # dense, two of glu, two of dip; two γ with two policies and two DRAM sizes
        "evaluate": shards * (1 + 2 + 2 + 2 * 2 * 2),
        # glu and dip: two densities, three policies, two DRAM sizes; no bandwidth; of glu one
        # policy where nothing is cached
        "score": 0,
        "simulate": shards * (2 * (3 + 1) + 2 * 3 * 2),
    }


def test_tasks_come_after_those_that_they_need() -> None:
    made = plan(policies=["static", "lfu"], cache={"start": ["empty", "hot"]})
    seen: set[str] = set()
    for task in made.tasks.values():
        assert seen.issuperset(task.needs)
        seen.add(task.key)


def test_every_key_of_a_point_is_a_task() -> None:
    made = plan(methods=["dense", {"method": "dip", "density": 0.5, "gamma": [1, 0.2]}])
    for point in made.points:
        assert set(point.keys) <= set(made.tasks)
        assert {made.tasks[key].kind for key in point.evaluate_keys + point.dense_keys} == {
            "evaluate"
        }
    dense, plain, cached = made.points
    assert dense.evaluate_keys == dense.dense_keys == plain.dense_keys == cached.dense_keys
    assert dense.simulate_keys == cached.simulate_keys == ()
    assert len(plain.simulate_keys) == len(plain.evaluate_keys) == 2


def test_a_key_is_the_digest_of_kind_and_payload() -> None:
    made = plan(policies="static")
    assert all(key == digest([t.kind, t.payload]) for key, t in made.tasks.items())


# -- what vanishes -----------------------------------------------------------------------------

OTHER_DEVICES = {
    "flash": {**DEVICE, "flash_gbps": 2.5},
    "dram speed": {**DEVICE, "dram_gbps": 100},
    "timing": {**DEVICE, "timing": "serial"},
    "name": {"device": "mine", "dram_gb": 4, "flash_gbps": 1, "dram_gbps": 60},
    "prose": {**DEVICE, "title": "A phone", "source": "a shop"},
    "a little DRAM": {**DEVICE, "dram_gb": 4.0000001},
}


@pytest.mark.parametrize("name", OTHER_DEVICES)
@pytest.mark.parametrize("gamma", [1.0, 0.2])
def test_bandwidths_and_names_enter_no_task(name: str, gamma: float) -> None:
    methods = [{"method": "dip", "density": 0.5, "gamma": gamma}]
    ours, other = plan(methods=methods), plan(methods=methods, devices=[OTHER_DEVICES[name]])
    assert set(ours.tasks) == set(other.tasks)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"budgets": [0.3]},
        {"keep_traces": True},
        {"resources": {"simulate": {"cpu": 2}}},
        {"resources": {"evaluate": {"gpu": 1}}},
        {"timing": "serial"},
        {"description": "another"},
    ],
)
def test_what_only_the_table_reads_enters_no_task(changes: dict[str, Any]) -> None:
    assert set(plan().tasks) == set(plan(**changes).tasks)
    assert set(aware().tasks) == set(aware(**changes).tasks)


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": [{**DEVICE, "dram_gb": 6}]},
        {"policies": "lru"},
        {"cache": {"start": "hot"}},
        {"cache": {"scope": "carry"}},
        {"quant": [{"method": "none", "bits": 3}]},
        {"quant": [{"method": "none", "embedding_bits": 8}]},
        {"kv": {"tokens": 4096}},
    ],
)
def test_the_cache_enters_simulations_and_no_accuracy_without_gamma(
    changes: dict[str, Any],
) -> None:
    ours, other = plan(), plan(**changes)
    assert keys_of(ours, "evaluate") == keys_of(other, "evaluate")
    assert not keys_of(ours, "simulate") & keys_of(other, "simulate")


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": [{**DEVICE, "dram_gb": 6}]},
        {"policies": "lru"},
        {"cache": {"start": "hot"}},
        {"cache": {"scope": "carry"}},
        {"quant": [{"method": "none", "bits": 3}]},
        {"methods": [{"method": "dip", "density": 0.5, "gamma": 0.3}]},
    ],
)
def test_the_cache_enters_accuracy_where_masks_depend_on_it(changes: dict[str, Any]) -> None:
    ours, other = aware(), aware(**changes)
    shared = keys_of(ours, "evaluate") & keys_of(other, "evaluate")
    assert shared == set(ours.points[0].dense_keys)
    assert keys_of(ours, "simulate") == set()


@pytest.mark.parametrize(
    ("changes", "dense_too"),
    [
        ({"dtype": "bfloat16"}, True),
        ({"window_tokens": 1024}, True),
        ({"text": "embedded-wiki"}, True),
        ({"shard_windows": 2}, True),
        ({"models": ["phi-3-mini"]}, True),
        ({"resources": {"evaluate": {"cpu": 2}}}, True),
        ({"methods": [{"method": "dip", "density": 0.6}]}, False),
        ({"methods": [{"method": "dip", "density": 0.5, "allocation": "uniform"}]}, False),
        ({"methods": [{"method": "up", "density": 0.5}]}, False),
    ],
)
def test_what_changes_accuracy_enters_it(changes: dict[str, Any], dense_too: bool) -> None:
    ours, other = plan().points[0], plan(**changes).points[0]
    assert not set(ours.evaluate_keys) & set(other.evaluate_keys)
    assert not set(ours.simulate_keys) & set(other.simulate_keys)
    assert bool(set(ours.dense_keys) & set(other.dense_keys)) == (not dense_too)


def test_more_windows_keep_those_that_there_were() -> None:
    assert set(plan().tasks) < set(plan(windows=3).tasks)


def test_devices_of_equal_capacity_share_their_tasks() -> None:
    devices = [DEVICE, OTHER_DEVICES["name"], {**DEVICE, "dram_gb": 4.0000001}]
    one, three = aware(), aware(devices=devices)
    assert len(three.points) == 3
    assert set(three.tasks) == set(one.tasks)


def test_no_cache_is_the_same_on_every_device() -> None:
    made = plan(policies="none", devices=[{**DEVICE, "dram_gb": [2, 4, 6]}])
    assert made.counts()["simulate"] == 2
    slots = [task.payload["slots"] for task in made.tasks.values() if "slots" in task.payload]
    assert slots == [{"input": 0, "intermediate": 0}] * 2


def test_static_and_hot_caches_need_an_order_of_units() -> None:
    for changes in ({"policies": "static"}, {"cache": {"start": "hot"}}):
        made = plan(**changes)
        (calibrate,) = keys_of(made, "calibrate")
        assert all(
            made.tasks[key].needs[1:] == (calibrate,) for key in made.points[0].simulate_keys
        )
        assert made.uses_calibration
    cached = aware(cache={"start": "hot"})
    (calibrate,) = keys_of(cached, "calibrate")
    assert all(cached.tasks[key].needs == (calibrate,) for key in cached.points[0].evaluate_keys)
    assert not plan().uses_calibration


def test_one_calibration_serves_every_density() -> None:
    methods = [{"method": "dip", "density": [0.5, 0.6, 0.7]}]
    assert plan(methods=methods, policies="static").counts()["calibrate"] == 1


def test_what_is_not_present_is_noted() -> None:
    notes = " ".join(plan(windows="all").notes)
    assert "model phi-3-medium is not present" in notes
    assert "text wikitext2 is not present" in notes


# -- why -----------------------------------------------------------------------------------------


def record_of(task: Task, **fields: Any) -> Record:
    return replace(Record(task.key, task.kind, task.label, "done", task.payload), **fields)


def finish(store: Store, tasks: list[Task]) -> None:
    with store:
        for task in tasks:
            store.add(record_of(task))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def made() -> Plan:
    return plan(windows=1)


def of_kind(made: Plan, kind: str) -> list[Task]:
    return [task for task in made.tasks.values() if task.kind == kind]


def own(made: Plan) -> tuple[Task, Task, Task]:
    """The dense evaluation, that of the method, and the simulation of its trace."""
    point: PlannedPoint = made.points[0]
    (dense,), (evaluate,), (simulate,) = point.dense_keys, point.evaluate_keys, point.simulate_keys
    return made.tasks[dense], made.tasks[evaluate], made.tasks[simulate]


def test_at_first_all_is_new(made: Plan, store: Store) -> None:
    assert missing(made, store) == dict.fromkeys(made.tasks, "new")


def test_what_is_done_is_not_missing(made: Plan, store: Store) -> None:
    finish(store, list(made.tasks.values()))
    assert missing(made, store) == {}


def test_a_trace_is_needed_again(made: Plan, store: Store) -> None:
    dense, evaluate, simulate = own(made)
    finish(store, [dense, evaluate])
    assert missing(made, store) == {
        evaluate.key: "trace needed again",
        simulate.key: "new",
    }


def test_a_trace_that_was_kept_is_not(made: Plan, store: Store) -> None:
    dense, evaluate, simulate = own(made)
    finish(store, [dense, evaluate])
    store.save(evaluate.key, {"anything": np.zeros(1)})
    assert missing(made, store) == {simulate.key: "new"}


def test_a_damaged_artefact_is_needed_again_all_the_way_up(store: Store) -> None:
    made = aware(windows=1, cache={"start": "hot"})
    (calibrate,) = of_kind(made, "calibrate")
    finish(store, [calibrate])
    store.save(calibrate.key, {"input": np.zeros(1)})
    path = store.artefact(calibrate.key)
    assert path is not None
    path.write_bytes(b"rubbish")
    reasons = missing(made, store)
    assert reasons[calibrate.key] == "statistics needed again"
    assert reasons[made.points[0].evaluate_keys[0]] == "new"


def test_a_change_of_code_is_named(
    made: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, list(made.tasks.values()))
    monkeypatch.setattr(code, "VERSION", "another")
    code.forget()
    changed = plan(windows=1)
    code.forget()
    reasons = missing(changed, store)
    assert set(reasons) == set(changed.tasks)
    dense, evaluate, simulate = own(changed)
    assert reasons[dense.key] == reasons[evaluate.key] == "changed since the last run: code"
    assert reasons[simulate.key] == "changed since the last run: code, inputs"


def test_a_change_of_dtype_is_named(made: Plan, store: Store) -> None:
    finish(store, list(made.tasks.values()))
    reasons = missing(plan(windows=1, dtype="bfloat16"), store)
    assert Counter(reasons.values()) == {
        "changed since the last run: dtype": 2,
        "changed since the last run: inputs": 1,
    }


def test_what_failed_stays_failed_until_asked(made: Plan, store: Store) -> None:
    dense, evaluate, simulate = own(made)
    with store:
        store.add(record_of(dense))
        store.add(record_of(evaluate, status="failed", error="ValueError: no"))
    assert missing(made, store) == {}
    assert missing(made, store, retry_failed=True) == {
        evaluate.key: "failed before: ValueError: no",
        simulate.key: "new",
    }


def test_what_the_machine_lost_runs_again(made: Plan, store: Store) -> None:
    dense, evaluate, simulate = own(made)
    with store:
        store.add(record_of(dense))
        store.add(record_of(evaluate, status="failed", error="node died", infrastructure=True))
    assert missing(made, store) == {
        evaluate.key: "lost before: node died",
        simulate.key: "new",
    }
