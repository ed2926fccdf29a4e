"""Shares that a task finds: what shares one, and that a second run computes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.tasks.task import Task
from tests.sweep.tinysweep import planned, run, sweep_of

EACH = ("gate-input", "up-input", "intermediate")


pytestmark = pytest.mark.usefixtures("one_thread")


def of_kind(plan: Any, kind: str) -> list[Task]:
    return [task for task in plan.tasks.values() if task.kind == kind]


def test_one_search_serves_every_density_and_one_calibration_every_split(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    own = {"gate-input": 0.5, "up-input": 0.4, "intermediate": 0.6}
    entries = [
        {"method": "teal", "density": [0.4, 0.5], "shares": ["uniform", "greedy"]},
        {"method": "teal", "density": 0.5, "shares": own},
        {"method": "teal", "density": 0.4, "shares": "greedy", "selector": "topk"},
        {"method": "wina", "density": 0.5},
    ]
    plan = planned(sweep_of(tiny_llama, tmp_path, tiny_text, *entries))
    (search,) = of_kind(plan, "train")
    assert search.payload["density"] == 1
    assert search.payload["parameters"] == {"attention": "none", "shares": "greedy"}
    assert search.payload["selector"] == {"name": "topk"}
    (calibration,) = of_kind(plan, "calibrate")
    assert (calibration.payload["parameters"], calibration.payload["inputs"]) == (
        {"attention": "none"},
        {},
    )
    needs = [
        task.payload["inputs"]
        for task in of_kind(plan, "evaluate")
        if task.payload["parameters"].get("shares") == "greedy"
    ]
    with_thresholds = {"calibration": calibration.key, "trained": search.key}
    assert needs.count(with_thresholds) == 4  # two densities of two windows
    assert needs.count({"trained": search.key}) == 2


def test_a_second_run_computes_nothing(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    entries = [
        {"method": "teal", "density": [0.4, 0.6], "shares": ["uniform", "sensitivity+greedy"]},
        {"method": "wina", "density": 0.4, "shares": "greedy", "gamma": [0.5, 1]},
    ]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries)
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    assert run(sweep, tmp_path / "run")[0].ran == 0
    notes = " ".join(json.loads((tmp_path / "run" / "provenance.json").read_text())["notes"])
    assert "shares at density 0.5: gate-input 0." in notes
    exact = table[table.method == "wina"]
    assert (exact.mlp_density - 0.4).abs().max() < 1 / 48
    assert exact.overhead_bytes.tolist() == [2 * 2 * (48 + 48 + 96)] * 2
    assert set(table[table.method == "teal"].overhead_bytes) == {0}
    assert exact.overhead_flops.tolist() == exact.overhead_bytes.tolist()
    assert set(table[table.method == "teal"].overhead_flops) == {0}


def test_trials_are_a_task_for_each_density_and_only_they_depend_on_their_number(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [
        {"method": "was", "density": [0.4, 0.6], "shares": "tpe", "trials": 3},
        {"method": "was", "density": 0.4, "shares": ["greedy", "uniform"], "trials": [3, 4]},
    ]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries)
    plan = planned(sweep)
    trained = [task.payload for task in of_kind(plan, "train")]
    assert [(payload["density"], payload.get("study")) for payload in trained] == [
        (0.4, "tpe"),
        (0.6, "tpe"),
        (1.0, None),
    ]
    assert [payload["parameters"].get("trials") for payload in trained] == [3, 3, None]
    assert trained[0]["code"] == trained[1]["code"] != trained[2]["code"]
    assert len(of_kind(plan, "calibrate")) == 1
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    assert run(sweep, tmp_path / "run")[0].ran == 0
    rows = table[table.parameters.str.contains("tpe")]
    assert (rows.mlp_density - rows.density).abs().max() < 0.05


def test_rotations_are_found_once_and_thresholds_are_those_of_rotated_inputs(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    turned = {"method": "wina", "rotation": True, "selector": ["topk", "layer-threshold"]}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, {**turned, "density": [0.4, 0.6]})
    plan = planned(sweep)
    (training,), (calibration,) = of_kind(plan, "train"), of_kind(plan, "calibrate")
    assert calibration.payload["inputs"] == {"trained": training.key}
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    by_threshold = table[table.selector == "layer-threshold"]
    assert (by_threshold.mlp_density - by_threshold.density).abs().max() < 0.05
    norms = 2 * (48 + 48 + 96)
    assert set(table.overhead_bytes) == {2 * norms + 2 * 48 * 48 * 4.125 / 8}
    assert set(table.overhead_flops) == {2 * norms + 2 * 2 * 48 * 48}


def test_weights_are_quantised_after_a_rotation(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    """One training for each quantisation, which no density, mask or window is part of; what it is
    held against are the same weights quantised as they are."""
    quant = {"method": "gptq", "bits": 4, "group_size": 16, "calibration_windows": 3}
    entries = [
        {"method": "dense", "quant": ["none", quant]},
        {"method": "la-rosa", "density": [0.6, 1.0], "quant": ["none", quant]},
        {"method": "la-rosa", "density": 0.6, "attention": "same", "quant": [quant]},
    ]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries)
    plan = planned(sweep)
    trained = [task.payload for task in of_kind(plan, "train")]
    assert [payload.get("recipe", {}).get("windows") for payload in trained] == [None, 3, 3]
    assert trained[0]["code"] != trained[1]["code"] == trained[2]["code"]
    assert len(of_kind(plan, "transform")) == 1  # of the dense row
    assert {tuple(payload["inputs"]) for payload in trained} == {()}
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    assert run(sweep, tmp_path / "run")[0].ran == 0
    ppl = {
        ("gptq" in row["quant"], row["method"], row["density"]): row
        for row in table.to_dict("records")
    }
    dense, whole = ppl[True, "dense", 1.0], ppl[True, "la-rosa", 1.0]
    assert whole["ppl_dense"] == dense["ppl"] != whole["ppl"]
    assert abs(whole["ppl"] / dense["ppl"] - 1) < 0.05
    plain = ppl[False, "la-rosa", 1.0]
    assert abs(plain["ppl"] / plain["ppl_dense"] - 1) < 1e-4


def test_shares_of_another_number_of_layers_are_refused(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entry = {"method": "teal", "density": 0.5, "shares": {group: [0.4, 0.5, 0.6] for group in EACH}}
    with pytest.raises(InputError, match="shares: those of 3 layers for the 2 layers of"):
        planned(sweep_of(tiny_llama, tmp_path, tiny_text, entry))


def test_shares_that_do_not_make_the_density_are_a_fault_of_the_sweep(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entry = {"method": "teal", "density": 0.4, "shares": dict.fromkeys(EACH, 0.5)}
    with pytest.raises(InputError, match=r"shares: together they make the density 0\.5"):
        sweep_of(tiny_llama, tmp_path, tiny_text, entry)
