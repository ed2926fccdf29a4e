"""Layout coactive in a sweep: computed once a method, a file by its key, and read by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator.coactive import coactive
from simulator.misses import miss_masks_plainly
from simulator.packing import unpack
from sweep.store.store import Store
from sweep.tasks import run as tasks
from sweep.tasks.task import Task
from tests.sweep.tinysweep import planned, run, sweep_of

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = {"device": "apple-a18", "dram_gb": 0.000224, "latency_us": 0.2}
DIP = {"method": "dip", "density": 0.5}
PRICED = {"method": "dip", "selector": "read-aware", "lam": 3e6}
LAYOUTS = ["natural", "hot", "coactive"]


def orders_of(plan: Any) -> list[Task]:
    return [task for task in plan.tasks.values() if task.payload.get("coactive")]


def test_the_order_is_that_of_masks_of_the_calibration_text(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, DIP, devices=[REAL], layouts="coactive")
    (ordering,) = orders_of(planned(sweep))
    record, orders = tasks.run(ordering, ())
    assert record.error == ""
    again, same = tasks.run(ordering, ())
    assert again.result == record.result
    evaluation = next(
        t
        for t in planned(sweep).tasks.values()
        if t.kind == "evaluate" and t.payload["method"] == "dip"
    )
    payload = {**evaluation.payload, "windows": ordering.payload["windows"]}
    where = {**evaluation.where, "text_name": sweep.calibration}
    _, trace = tasks.run(Task("evaluate", "", payload, "on calibration", where), ())
    for group, units in trace.units.items():
        for layer in range(trace.layers):
            mask = unpack(trace.masks(group, layer), units)
            assert orders[group][layer].tolist() == coactive([mask]).tolist()
            assert np.array_equal(orders[group], same[group])
        figures = record.result["groups"][group]
        assert len(figures["runs"]) == trace.layers
        assert sum(figures["runs_coactive"]) < sum(figures["runs"])


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("coactive")
    methods = ("dense", {**DIP, "gamma": [1, 0.3]}, PRICED)
    sweep = sweep_of(
        *(tiny_llama, folder, tiny_text, *methods),
        devices=[REAL],
        policies=["lfu", "none"],
        layouts=LAYOUTS,
        keep_traces=True,
    )
    assert len(orders_of(planned(sweep))) == 1  # for all selectors, policies and prices
    _, rows = run(sweep, folder / "out")
    return rows, folder / "out"


def test_masks_are_those_of_every_layout(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = finished
    assert (rows.status == "done").all(), rows.error.tolist()
    by_layout: Any = rows[(rows.method == "dip") & rows.lam.isna()].groupby("layout")
    figures = [group[["ppl", "hit_rate", "mlp_density"]].to_numpy() for _, group in by_layout]
    assert len(figures) == 3
    assert all(np.array_equal(figures[0], other) for other in figures[1:])
    priced = rows[rows.lam.notna() & (rows.policy == "none")]
    assert set(priced.layout) == set(LAYOUTS)
    assert priced.ppl.nunique() == 3  # what is worth reading depends on what lies beside it


def test_reads_are_runs_in_that_order(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, out = finished
    row: Any = rows[(rows.layout == "coactive") & (rows.gamma == 0.3) & (rows.policy == "lfu")]
    (row,) = (found for _, found in row.iterrows())
    store, groups = Store(out), json.loads(row.reads)
    gap = REAL["latency_us"] * 1e-6 * row.flash_gbps * 1e9
    reads = 0
    for key in json.loads(row.task_keys):
        record = store.records[key]
        if record.kind != "simulate":
            continue
        payload = record.payload
        trace, orders = (store.load(payload["inputs"][role]) for role in ("trace", "order"))
        for group, layer, _, packed in trace.blocks():
            masks = unpack(packed, trace.units[group])
            missed = miss_masks_plainly(masks, payload["slots"][group], payload["policy"])
            for token in missed[:, orders[group][layer]]:
                units = np.flatnonzero(token)
                apart = np.diff(units) - 1
                reads += len(units[:1]) + int((apart * groups[group]["unit_bytes"] >= gap).sum())
    assert row.reads_per_token * row.tokens == pytest.approx(reads)


def test_experts_have_no_such_order(tmp_path: Path, tiny_text: str) -> None:
    from simulator import Device
    from sweep.plan.excluded_points import unread
    from sweep.plan.point import MethodTraits

    device = Device.load(REAL)
    reason = unread(MethodTraits.of("cache-prior"), "topk", device, "coactive")
    assert "whole experts" in reason
    assert unread(MethodTraits.of("dip"), "topk", device, "coactive") == ""
