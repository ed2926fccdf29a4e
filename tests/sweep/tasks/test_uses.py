"""Uses of units on the calibration text: counted by the masks of a point, and pinned by hot-set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.inputs import texts
from sweep.store.store import Store
from sweep.tasks import run as tasks
from sweep.tasks.task import Task
from tests.sweep.tinysweep import planned, run, sweep_of

DIP = {"method": "dip", "density": [0.4, 0.6]}


pytestmark = pytest.mark.usefixtures("one_thread")


def of_kind(plan: Any, kind: str) -> list[Task]:
    return [task for task in plan.tasks.values() if task.kind == kind]


def test_uses_are_those_of_an_evaluation_of_the_calibration_text(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = sweep_of(
        tiny_llama, tmp_path, tiny_text, {"method": "dip", "density": 0.5}, policies="hot-set"
    )
    (counting,) = of_kind(planned(sweep), "calibrate")
    record, orders = tasks.run(counting, ())
    assert record.error == ""
    windows = texts.windows(sweep.calibration, str(tiny_llama), 64, calibration=True)
    windows = windows[counting.payload["windows"]]
    assert record.result["tokens"] == windows.size
    evaluation = next(t for t in of_kind(planned(sweep), "evaluate") if t.payload["selector"])
    payload = {**evaluation.payload, "windows": list(range(len(windows)))}
    where = {**evaluation.where, "text_name": sweep.calibration}
    _, trace = tasks.run(Task("evaluate", "", payload, "on calibration", where), ())
    assert set(orders) == set(trace.units)
    for group, units in trace.units.items():
        for layer in range(trace.layers):
            bits = np.unpackbits(
                trace.masks(group, layer).view(np.uint8), axis=1, bitorder="little", count=units
            )
            uses = bits.sum(axis=0).tolist()
            falling = sorted(range(units), key=lambda unit, uses=uses: (-uses[unit], unit))
            assert orders[group][layer].tolist() == falling
            share = sum(uses[unit] for unit in falling[: units // 2]) / sum(uses)
            counted = record.result["groups"][group]["used_by_half"][layer]
            assert counted == pytest.approx(share, abs=1e-12)
            assert 0.5 <= counted <= 1


def test_each_density_and_selector_has_its_own_and_other_policies_have_none(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [DIP, {"method": "dip", "density": 0.4, "selector": "layer-threshold"}]
    both = planned(
        sweep_of(tiny_llama, tmp_path, tiny_text, *entries, policies=["hot-set", "static"])
    )
    calibrations = of_kind(both, "calibrate")
    counting = [task for task in calibrations if "selector" in task.payload]
    assert [(t.payload["density"], t.payload["selector"]["name"]) for t in counting] == [
        (0.4, "topk"),
        (0.6, "topk"),
        (0.4, "layer-threshold"),
    ]
    (activity,) = [task for task in calibrations if "selector" not in task.payload]
    assert counting[2].payload["inputs"] == {"calibration": activity.key}
    static = planned(sweep_of(tiny_llama, tmp_path, tiny_text, *entries, policies="static"))
    assert set(static.tasks) < set(both.tasks)
    assert [task.key for task in of_kind(static, "calibrate")] == [activity.key]
    online = planned(sweep_of(tiny_llama, tmp_path, tiny_text, DIP, policies=["slru", "window-3"]))
    assert of_kind(online, "calibrate") == []


def test_a_sweep_runs_with_every_policy_of_engines(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    names = [
        "lru",
        "window-1",
        "window-3",
        "lfu-admit",
        "lfru",
        "slru",
        "hot-set",
        "static",
        "none",
    ]
    sweep = sweep_of(
        tiny_llama,
        tmp_path,
        tiny_text,
        "dense",
        {"method": "dip", "density": 0.4},
        policies=names,
        devices=[{"device": "apple-a18", "dram_gb": 0.0002232}],  # half of all units fit
    )
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    pruned = table[table.method == "dip"].set_index("policy")
    assert list(pruned.index) == names
    assert (pruned.drop("none").hit_rate > 0).all()
    assert pruned.hit_rate["window-1"] <= pruned.hit_rate["window-3"] <= pruned.hit_rate["lru"]
    assert not pruned.policy_offline.any()
    assert pruned.ppl.nunique() == 1
    asked = pruned.asked_per_slot
    assert asked.drop("none").nunique() == 1
    assert np.isnan(asked["none"])
    dense = table[table.method == "dense"].iloc[0]
    assert np.isnan(dense.asked_per_slot)
    store = Store(tmp_path / "run")
    for key in (task.key for task in of_kind(planned(sweep), "calibrate")):
        assert store.keeps(key)
