"""Reads by class of size: of devices with several tables alone, and no figure is another for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.findings.pricing import parse
from reports.results import read_table
from simulator.read_classes import octaves
from sweep.results.counts import merged_counts
from tests.sweep import tinysweep

FAST = [[64, 0.1], [512, 0.5], [4096, 1.1], [65536, 2.0]]
SLOW = [[64, 0.02], [512, 0.12], [4096, 0.4], [65536, 1.2]]
OWN = {"dram_gb": 0.000224, "flash_gbps": 1, "dram_gbps": 60, "io_depth": 8}
SEVERAL = {"device": "several", **OWN, "flash": {"depth": {1: SLOW, 8: FAST}}}
ONE = {"device": "one", **OWN, "flash": {"depth": {8: FAST}}}
METHODS = ("dense", {"method": "dip", "density": 0.5, "gamma": [1, 0.3], "chunk": [1, 4]})


def swept(model: Path, folder: Path, text: str, *devices: Any) -> Any:
    return tinysweep.sweep_of(
        model, folder, text, *METHODS, devices=list(devices), layouts=["natural", "hot"]
    )


@pytest.fixture(scope="module")
def rows(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("classes")
    tinysweep.run(swept(tiny_llama, folder, tiny_text, ONE, SEVERAL), folder / "out")
    return read_table(folder / "out" / "results.parquet").to_pylist()


def test_only_devices_with_several_tables_have_them(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    plans = {
        device["device"]: tinysweep.planned(swept(tiny_llama, tmp_path, tiny_text, device))
        for device in (ONE, SEVERAL)
    }
    payloads = {
        name: [t.payload for t in plan.tasks.values() if t.kind == "simulate"]
        for name, plan in plans.items()
    }
    assert not any("classes" in payload for payload in payloads["one"])
    assert all(payload["classes"] for payload in payloads["several"])
    code = {name: {payload["code"] for payload in of} for name, of in payloads.items()}
    assert len(code["one"] | code["several"]) == 2
    same = [
        {k: v for k, v in p.items() if k not in ("classes", "code")} for p in payloads["several"]
    ]
    assert same == [{k: v for k, v in p.items() if k != "code"} for p in payloads["one"]]


def test_every_figure_is_the_same_and_classes_stand_beside(rows: list[dict[str, Any]]) -> None:
    half = len(rows) // 2
    by_device = [[r for r in rows if r["device"] == name] for name in ("one", "several")]
    assert [len(of) for of in by_device] == [half, half]
    own = ("point_key", "device", "flash_law", "reads", "task_keys", "sweep")
    pruned = 0
    for one, several in zip(*by_device, strict=True):
        assert {k: v for k, v in one.items() if k not in own} == {
            k: v for k, v in several.items() if k not in own
        }
        counts = [json.loads(row["reads"]) for row in (one, several)]
        for name, group in counts[1].items():
            classes = group["came"].pop("classes")
            assert group == counts[0][name]
            assert sum(n for _, n, _ in classes) == sum(group["came"]["reads"])
            assert sum(size for *_, size in classes) == pytest.approx(sum(group["came"]["bytes"]))
            by_power = {str(power): n for power, n in octaves(classes).items()}
            assert by_power == group["came"]["sizes"]
            pruned += 1
        for group in parse(several["reads"]) or ():
            assert group.came
            assert sum(n for _, n in group.came.classes) == sum(group.came.reads)
    assert pruned > 4


def test_shards_without_classes_leave_them_out() -> None:
    shard = {
        "phases": {"used": [4], "missed": [2], "count": [1]},
        "reads": [1],
        "bytes": [8.0],
        "seconds": [1.0],
        "sizes": {"8": 1},
        "used_by_layer": [4],
        "hits_by_layer": [2],
    }
    classed = shard | {"classes": [[192, 1, 8.0]]}
    assert merged_counts([classed, classed])["classes"] == [[192, 2, 16.0]]
    assert merged_counts([classed, shard])["classes"] is None
