"""Bundles over layers in a sweep: the same masks, other reads, and the time of preloading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reports.findings.points import configuration, points
from reports.results import rows as rows_of
from simulator import Device
from simulator.packing import unpack
from simulator.preload import preloading
from simulator.read_cost import ReadCost
from simulator.read_plans import reads
from sweep.plan.grid import expand
from sweep.store.store import Store
from tests.sweep.tinysweep import run, sweep_of

DRAM = 0.000224
REAL = {"device": "apple-a18", "dram_gb": DRAM, "latency_us": 0.2}
FLOW = {"method": "active-flow", "density": 0.5, "ahead": 1}


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    sweep = sweep_of(
        *(tiny_llama, folder, tiny_text, "dense", FLOW),
        devices=[REAL],
        policies=["none", "hot-set"],
        layouts=["natural", "hot"],
        preload_layers=[0, 1],
        keep_traces=True,
    )
    _, rows = run(sweep, folder / "out")
    return rows, folder / "out"


def row_of(rows: pd.DataFrame, **wanted: Any) -> Any:
    chosen: Any = rows[rows.method == "active-flow"]
    for name, value in wanted.items():
        chosen = chosen[chosen[name] == value]
    assert len(chosen) == 1, wanted
    return chosen.iloc[0]


def test_masks_and_caches_are_the_same(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = finished
    assert (rows.status == "done").all(), rows.error.tolist()
    for policy in ("none", "hot-set"):
        plain, ahead = (
            row_of(rows, policy=policy, layout="natural", preload_layers=layers)
            for layers in (0, 1)
        )
        same = ["ppl", "mlp_density", "hit_rate", "cache_fraction", "tokens_per_s_paper"]
        assert plain[same].tolist() == ahead[same].tolist()
        assert ahead.flash_bytes_per_token > plain.flash_bytes_per_token  # announced in vain
        assert ahead.tokens_per_s != plain.tokens_per_s


def test_rows_say_what_is_read_ahead(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = finished
    named = [configuration(point) for point in points(rows_of(rows))]
    assert sum("1 layer ahead" in name for name in named) == 4
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("layout", ["natural", "hot"])
@pytest.mark.parametrize("policy", ["none", "hot-set"])
def test_time_is_that_of_every_token_by_itself(
    finished: tuple[pd.DataFrame, Path], policy: str, layout: str
) -> None:
    """By masks of the trace, one layer a step: top-k has one kind of step, but for its reads."""
    rows, out = finished
    row = row_of(rows, policy=policy, layout=layout, preload_layers=1)
    store, groups = Store(out), json.loads(row.reads)
    device = Device.load({**REAL, "flash_gbps": row.flash_gbps, "dram_gbps": row.dram_gbps})
    cost, seconds, count, read_bytes = device.read_cost(), 0.0, 0, 0.0
    assert isinstance(cost, ReadCost)
    for key in json.loads(row.task_keys):
        record = store.records[key]
        if record.kind != "simulate":
            continue
        trace = store.load(record.payload["inputs"]["trace"])
        shape = (trace.tokens, trace.layers)
        ahead_s, late_s, used_bytes = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for group, units in trace.units.items():
            masks = [unpack(trace.masks(group, layer), units) for layer in range(trace.layers)]
            for layer, mask in enumerate(masks):
                announced = masks[max(0, layer - 1)]
                held = np.zeros(units, np.bool_)
                if policy != "none":
                    start = store.load(record.payload["inputs"]["start"])[group][layer]
                    held[start[: record.payload["slots"][group]]] = True
                order = np.arange(units)
                if layout == "hot":
                    order = store.load(record.payload["inputs"]["order"])[group][layer]
                size = groups[group]["unit_bytes"]
                used_bytes[:, layer] += mask.sum(axis=1) * size
                for wanted, into in (
                    (announced & ~held, ahead_s),
                    (mask & ~announced & ~held, late_s),
                ):
                    number, total, time = reads(wanted[:, order], size, cost)
                    into[:, layer] += time
                    count, read_bytes = count + int(number.sum()), read_bytes + total.sum()
        timed = preloading(
            ahead_s, used_bytes, late_s, device, announced_seconds=ahead_s, demanded_seconds=late_s
        )
        seconds += float(timed.seconds.sum())
    assert row.reads_per_token * row.tokens == pytest.approx(count)
    assert row.flash_bytes_per_token * row.tokens == pytest.approx(
        read_bytes + row.excess_bytes * row.tokens
    )
    streamed = 4 * 2**20 / cost(4 * 2**20)
    static = max(row.excess_bytes / streamed, row.resident_bytes / (row.dram_gbps * 1e9))
    assert 1 / row.tokens_per_s == pytest.approx(static + seconds / row.tokens, rel=2e-2)


@pytest.mark.parametrize(
    ("method", "changed", "reason"),
    [
        (FLOW, {"preload_layers": [2]}, "announced for 3, and active-flow announces its own for 1"),
        ({"method": "dip", "density": 0.5}, {}, "dip announces its own for 0"),
        (FLOW, {"policies": ["lfu"]}, "what is read ahead needs policy none, static, hot-set"),
        ({**FLOW, "gamma": 0.2}, {"policies": ["lfu"]}, "cannot announce"),
    ],
)
def test_what_cannot_be_read_ahead_is_left_out(
    tiny_llama: Path, tiny_text: str, tmp_path: Path, method: Any, changed: Any, reason: str
) -> None:
    settings = {"devices": [REAL], "policies": ["none"], "preload_layers": [1], **changed}
    grid = expand(sweep_of(tiny_llama, tmp_path, tiny_text, "dense", method, **settings))
    assert [point.method for point in grid.points] == ["dense"]
    assert any(reason in skipped.reason for skipped in grid.skipped), grid.skipped


def test_keys_are_as_they_were_where_nothing_is_read_ahead(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    settings = {"devices": [REAL, {**REAL, "latency_us": 0}], "policies": ["none"]}
    with_axis = sweep_of(
        *(tiny_llama, tmp_path, tiny_text, FLOW), **settings, preload_layers=[0, 1]
    )
    without = sweep_of(tiny_llama, tmp_path, tiny_text, FLOW, **settings)
    keys, before = ([p.key for p in expand(s).points] for s in (with_axis, without))
    assert set(before) < set(keys)
    assert len(set(keys)) == len(keys) == 3
