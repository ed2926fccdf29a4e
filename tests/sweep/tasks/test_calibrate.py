"""Calibration: counts of scores with nothing pruned, kept, and used by threshold selectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import methods
from methods.apply import applied
from methods.thresholds import Quantiles
from simulator.packing import unpack
from sweep.inputs import texts
from sweep.inputs.models import loaded
from sweep.store.store import Store
from sweep.tasks import run as tasks
from sweep.tasks.calibrate import Statistics
from sweep.tasks.task import Task
from tests.sweep.tinysweep import planned, run, sweep_of

pytestmark = pytest.mark.usefixtures("one_thread")


def of_kind(plan: Any, kind: str) -> list[Task]:
    return [task for task in plan.tasks.values() if task.kind == kind]


def test_all_densities_of_a_method_share_one_calibration(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [
        {"method": "cats", "density": [0.5, 0.6, 0.7]},
        {"method": "gate", "density": 0.5, "selector": ["layer-threshold", "global-threshold"]},
        {"method": "dip", "density": 0.5},
    ]
    made = planned(sweep_of(tiny_llama, tmp_path, tiny_text, *entries))
    assert [t.payload["method"] for t in of_kind(made, "calibrate")] == ["cats", "gate"]
    selectors = [t.payload["selector"].get("name") for t in of_kind(made, "evaluate")]
    assert selectors.count("layer-threshold") == 2 * 4
    assert selectors.count("global-threshold") == 2
    assert selectors.count("topk") == 2


def test_it_counts_the_scores_of_the_dense_model_on_the_calibration_text(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, {"method": "cats", "density": 0.5})
    (task,) = of_kind(planned(sweep), "calibrate")
    record, arrays = tasks.run(task, ())
    assert record.error == ""
    known = Quantiles.of(arrays)
    windows = texts.windows(sweep.calibration, str(tiny_llama), 64, calibration=True)
    windows = windows[task.payload["windows"]]
    _, counts = known.groups["up-neuron"]
    assert counts.sum(axis=1).tolist() == [windows.size * 96] * 2
    model, scores = loaded(str(tiny_llama)), {0: [], 1: []}

    def note(layer: int, group: str, found: torch.Tensor, density: float) -> torch.Tensor:
        scores[layer].append(found)
        return torch.ones_like(found)

    with torch.no_grad(), applied(model, methods.create("gate"), note):
        model(input_ids=torch.from_numpy(windows))
    for layer, threshold in enumerate(known.thresholds("layer-threshold", "up-neuron", 0.25)):
        every = torch.cat(scores[layer])
        assert float((every >= threshold).float().mean()) == pytest.approx(0.25, abs=2e-3)
    sums = [torch.cat(scores[layer]).flatten(0, 1).double().sum(0) for layer in (0, 1)]
    for layer, total in enumerate(sums):
        order = arrays["up-neuron"][layer]
        assert sorted(order.tolist()) == list(range(96))
        assert (np.diff(total.numpy()[order]) <= 1e-9).all()


def test_it_gives_the_same_twice(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, {"method": "cats", "density": 0.5})
    (task,) = of_kind(planned(sweep), "calibrate")
    (first, arrays), (second, again) = tasks.run(task, ()), tasks.run(task, ())
    assert first.result == second.result
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_statistics_keep_every_unit() -> None:
    scores = torch.rand(1, 3, 5)
    assert torch.equal(Statistics()(0, "neuron", scores, 0.2), torch.ones(1, 3, 5))


def test_a_realised_density_is_reported_beside_the_requested_one(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [
        {"method": "cats", "density": 0.6},
        {"method": "dip", "density": 0.6, "selector": "layer-threshold"},
        {"method": "glu-oracle", "density": 0.3, "selector": "global-threshold"},
    ]
    sweep = sweep_of(
        tiny_llama, tmp_path, tiny_text, *entries, policies=["lfu", "none"], keep_traces=True
    )
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    assert set(table.selector) == {"layer-threshold", "global-threshold"}
    store, made = Store(tmp_path / "run"), planned(sweep)
    for row, point in zip(table.to_dict("records"), made.points, strict=True):
        assert row["mlp_density"] == pytest.approx(row["density"], abs=0.08)
        assert row["mlp_density"] != row["density"]
        traces = [store.load(key) for key in point.evaluate_keys]
        for group, reads in json.loads(row["reads"]).items():
            masks = [unpack(trace.packed[group], trace.units[group]) for trace in traces]
            used = np.concatenate([mask.sum(axis=-1).ravel() for mask in masks])
            assert sum(reads["used_by_layer"]) == used.sum()
            phases = reads["phases"]
            assert np.dot(phases["used"], phases["count"]) == used.sum()
            assert len(set(phases["used"])) > 1  # it varies from token to token


def test_gamma_below_1_takes_the_place_of_top_k_only(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    from sweep.plan.grid import expand

    entries = [
        {"method": "cats", "density": 0.6, "gamma": [0.5, 1]},
        {"method": "gate", "density": 0.6, "gamma": 0.5, "selector": ["topk", "layer-threshold"]},
    ]
    grid = expand(sweep_of(tiny_llama, tmp_path, tiny_text, *entries))
    found = [(point.method, point.gamma, point.selector) for point in grid.points]
    assert found == [
        ("cats", 1.0, "layer-threshold"),
        ("gate", 0.5, "cache-aware"),
    ]
    assert [(s.reason, s.points) for s in grid.skipped] == [
        (
            (
                "gamma below 1 selects by the cache, not by layer-threshold, the selector of cats; "
                "selector: topk in its entry asks for it"
            ),
            1,
        ),
        ("gamma below 1 selects by the cache, not by layer-threshold", 1),
    ]
