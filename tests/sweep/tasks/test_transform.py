"""Transform tasks: weights that are changed once, kept in the store, and evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from rich.console import Console

from sweep import api
from sweep.inputs import models
from sweep.spec import file as spec
from sweep.store.store import Store
from sweep.tasks import run as tasks
from sweep.tasks.task import Task

GPTQ = {"method": "gptq", "bits": 3, "group_size": 16, "calibration_windows": 4}


@pytest.fixture
def sweep_file(
    tiny_llama: Path, tiny_text_file: Path, tiny_text: str, tmp_path: Path
) -> Callable[..., Path]:
    calibration = tmp_path / "calibration.txt"
    calibration.write_text("\n\n".join(reversed(tiny_text.split("\n\n"))))

    def write(**keys: Any) -> Path:
        sweep = {
            "models": [str(tiny_llama)],
            "methods": ["dense"],
            "text": str(tiny_text_file),
            "calibration": str(calibration),
            "windows": 2,
            "window_order": "first",
            "window_tokens": 64,
            "devices": [{"device": "phone", "dram_gb": 5e-5, "flash_gbps": 1, "dram_gbps": 50}],
            **{
                key: [v] if key == "quant" and isinstance(v, dict) else v for key, v in keys.items()
            },
        }
        path = tmp_path / "sweeps.yaml"
        path.write_text(yaml.safe_dump({"sweeps": {"s": sweep}}))
        return path

    return write


def planned(path: Path) -> api.SweepPlan:
    return api.plan_sweep(spec.select(spec.load(path), "s"))


def run(path: Path, out: Path) -> tuple[api.Finished, list[dict[str, Any]]]:
    options = api.Options(out, workers=0, report=False)
    with (out.parent / "console.txt").open("w") as sink:
        done = api.run(spec.select(spec.load(path), "s"), options, Console(file=sink))
    table: pa.Table = done.table
    return done, table.to_pylist()


def transforms(path: Path) -> list[Task]:
    return [t for t in planned(path).plan.tasks.values() if t.kind == "transform"]


# -- planning --------------------------------------------------------------------------------


def test_quantised_weights_are_made_once_for_all_methods(sweep_file: Callable[..., Path]) -> None:
    methods = ["dense", {"method": ["dip", "up"], "density": [0.5, 0.7]}]
    plan = planned(sweep_file(quant=GPTQ, methods=methods)).plan
    (made,) = [t.key for t in plan.tasks.values() if t.kind == "transform"]
    evaluated = [t for t in plan.tasks.values() if t.kind == "evaluate"]
    assert {t.payload["inputs"].get("weights") for t in evaluated} == {None, made}
    full = [t for t in evaluated if "weights" not in t.payload["inputs"]]
    assert {t.payload["method"] for t in full} == {"dense"}  # for ppl_full alone


@pytest.mark.parametrize(
    ("quant", "method", "steps"),
    [
        ("none", "sparsegpt", [("sparsegpt", None)]),
        ("rtn", "wanda", [(None, "rtn"), ("wanda", None)]),
        ("gptvq", "magnitude", [(None, "gptvq"), ("magnitude", None)]),
        ("gptq", "sparsegpt", [(None, "gptq"), ("sparsegpt", "gptq")]),
    ],
)
def test_pruning_and_quantisation_are_chained_or_done_at_once(
    sweep_file: Callable[..., Path], quant: str, method: str, steps: list[tuple[Any, Any]]
) -> None:
    entry = {"method": method, "density": 0.5}
    made = transforms(sweep_file(quant={"method": quant, "bits": 4}, methods=[entry]))
    recipes = [t.payload["recipe"] for t in made]
    assert [
        (r["prune"] and r["prune"]["method"], r["quant"] and r["quant"]["method"]) for r in recipes
    ] == steps


def test_sparsegpt_on_a_grid_that_it_would_leave_is_skipped_with_a_reason(
    sweep_file: Callable[..., Path],
) -> None:
    methods = ["dense", {"method": "sparsegpt", "density": 0.5}]
    found = planned(sweep_file(quant={"method": ["rtn", "gptvq"], "bits": 4}, methods=methods))
    (skipped,) = [s for s in found.grid.skipped if s.points]
    assert skipped.points == 2
    assert "only gptq rounds on the way" in skipped.reason


def test_key_holds_what_can_change_the_weights_and_nothing_else(
    sweep_file: Callable[..., Path],
) -> None:
    def key(quant: Any = GPTQ, **keys: Any) -> str:
        return transforms(sweep_file(quant=quant, **keys))[0].key

    base = key()
    same_weights = {"windows": 1, "seed": 5, "budgets": [0.5], "policies": "lru"}
    assert {key(**{name: value}) for name, value in same_weights.items()} == {base}
    assert key(GPTQ | {"embedding_bits": 8}) == base
    others = [{"bits": 4}, {"group_size": 8}, {"damping": 0.1}, {"act_order": True}]
    others.append({"calibration_windows": 2})
    assert len({base, *(key(GPTQ | other) for other in others), key(window_tokens=32)}) == 7
    by_seed = {key({"method": "gptvq", "bits": 2}, seed=seed) for seed in (0, 1)}
    assert len(by_seed) == 2


def test_round_to_nearest_needs_no_calibration_text(sweep_file: Callable[..., Path]) -> None:
    found = planned(sweep_file(quant={"method": "rtn", "bits": 3}))
    (task,) = [t for t in found.plan.tasks.values() if t.kind == "transform"]
    assert task.payload["windows"] == []
    assert "text" not in task.payload


# -- bytes -----------------------------------------------------------------------------------


def test_static_bytes_are_those_of_kept_weights_and_their_mask(
    sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    methods = ["dense", {"method": "magnitude", "density": 0.5, "pattern": ["unstructured", "2:4"]}]
    _, rows = run(sweep_file(methods=methods), tmp_path / "run")
    dense, unstructured, two_of_four = rows
    mlp = 2 * 3 * 48 * 96  # layers, matrices
    scales = 2 * (96 * 2 + 48) * 16  # one for each row: 128 weights are in no row
    saved = 0.5 * (mlp * 4 + scales) / 8
    for row, mask_bits in ((unstructured, 1.0), (two_of_four, 0.75)):
        assert row["overhead_bytes"] == pytest.approx(mlp * mask_bits / 8)
        static = dense["static_bytes"] - saved + row["overhead_bytes"]
        assert row["static_bytes"] == pytest.approx(static)
        assert row["tokens_per_s"] > row["tokens_per_s_dense"] == dense["tokens_per_s"]
        assert row["mlp_density"] == 0.5
        assert row["ppl"] != row["ppl_dense"] == dense["ppl"]


def test_fewer_bits_are_fewer_bytes_and_both_dense_perplexities_are_shown(
    sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    methods = ["dense", {"method": "dip", "density": 0.6}]
    quants = [{"method": "none", "bits": 3}, {"method": "rtn", "bits": [2, 3]}]
    _, rows = run(sweep_file(methods=methods, quant=quants), tmp_path / "run")
    by = {(row["quant"], row["method"]): row for row in rows}
    full = by["3 bit", "dense"]["ppl"]
    assert {row["ppl_full"] for row in rows} == {full}
    for bits in (2, 3):
        dense, dip = by[f"rtn {bits} bit", "dense"], by[f"rtn {bits} bit", "dip"]
        assert dip["ppl_dense"] == dense["ppl"] != full
        assert dip["delta_ppl"] == dip["ppl"] - dense["ppl"]
    assert by["3 bit", "dense"]["static_bytes"] == by["rtn 3 bit", "dense"]["static_bytes"]
    assert by["rtn 2 bit", "dense"]["static_bytes"] < full_bytes(by)


def full_bytes(by: dict[tuple[str, str], dict[str, Any]]) -> float:
    return by["3 bit", "dense"]["static_bytes"]


# -- running ---------------------------------------------------------------------------------


def test_evaluation_is_that_of_a_model_with_these_weights(
    sweep_file: Callable[..., Path], tmp_path: Path, tiny_llama: Path
) -> None:
    path = sweep_file(quant=GPTQ)
    done, (row,) = run(path, tmp_path / "run")
    assert done.exit_code == 0
    (task,) = transforms(path)
    weights = Store(tmp_path / "run").load(task.key)
    model = models.load(str(tiny_llama))
    state = model.state_dict()
    assert set(weights) == {n for n in state if "layers" in n and "norm" not in n}
    state.update({name: torch.from_numpy(array) for name, array in weights.items()})
    model.load_state_dict(state)
    window = torch.from_numpy(first_window(path))
    logits = model(input_ids=window[None]).logits[0, :-1]
    nll = torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum")
    evaluated = [r for r in Store(tmp_path / "run").records.values() if r.kind == "evaluate"]
    on_these = [r for r in evaluated if r.payload["inputs"] and r.payload["windows"] == [0]]
    assert on_these[0].result["nll"] == [pytest.approx(float(nll), rel=1e-6)]
    assert row["status"] == "done"


def first_window(path: Path) -> np.ndarray:
    from sweep.inputs import texts

    sweep = spec.select(spec.load(path), "s")
    return texts.windows(sweep.text, sweep.models[0].model, sweep.window_tokens)[0]


@pytest.mark.parametrize("method", ["gptq", "gptvq", "rtn"])
def test_same_task_gives_the_same_artefact_twice(
    sweep_file: Callable[..., Path], method: str
) -> None:
    quant = {"method": method, "bits": 2, "group_size": 16}
    (task,) = transforms(sweep_file(quant=quant))
    (first, a), (second, b) = (tasks.run(task, ()) for _ in range(2))
    assert first.status == "done", first.error
    assert first.result == second.result
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_seed_changes_a_codebook(sweep_file: Callable[..., Path]) -> None:
    (task,) = transforms(sweep_file(quant={"method": "gptvq", "bits": 2, "group_size": 16}))
    other = replace(task, payload=task.payload | {"seed": 1})
    (_, a), (_, b) = (tasks.run(t, ()) for t in (task, other))
    assert any(not np.array_equal(a[name], b[name]) for name in a)


def test_model_of_the_process_is_left_as_it_was(
    sweep_file: Callable[..., Path], tiny_llama: Path
) -> None:
    before = {n: p.clone() for n, p in models.loaded(str(tiny_llama)).named_parameters()}
    entry = {"method": "sparsegpt", "density": 0.5}
    for task in transforms(sweep_file(quant=GPTQ, methods=[entry])):
        record, _ = tasks.run(task, ())
        assert record.status == "done", record.error
    after = dict(models.loaded(str(tiny_llama)).named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_weights_without_updates_stay_on_the_grid_when_pruned(
    sweep_file: Callable[..., Path],
) -> None:
    entry = {"method": "wanda", "density": 0.5}
    first, second = transforms(sweep_file(quant=GPTQ, methods=[entry]))
    _, quantised = tasks.run(first, ())
    _, pruned = tasks.run(second, (quantised,))
    assert set(pruned) == set(quantised)
    for name, array in pruned.items():
        assert np.array_equal(array, np.where(array != 0, quantised[name], 0)), name


def test_bfloat16_weights_are_handed_over_exactly(sweep_file: Callable[..., Path]) -> None:
    (task,) = transforms(sweep_file(quant=GPTQ, dtype="bfloat16"))
    record, weights = tasks.run(task, ())
    assert record.status == "done", record.error
    assert {array.dtype for array in weights.values()} == {np.dtype(np.uint16)}


# -- the store -------------------------------------------------------------------------------


def test_nothing_is_made_twice(sweep_file: Callable[..., Path], tmp_path: Path) -> None:
    path = sweep_file(quant=GPTQ)
    run(path, tmp_path / "run")
    again, _ = run(path, tmp_path / "run")
    assert again.ran == 0


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_corrupt_weights_are_noticed_and_made_anew(
    sweep_file: Callable[..., Path], tmp_path: Path, harm: str
) -> None:
    out = tmp_path / "run"
    run(sweep_file(quant=GPTQ), out)
    path = sweep_file(quant=GPTQ, windows=3)  # one more evaluation of the same weights
    (task,) = transforms(path)
    artefact = Store(out).artefact(task.key)
    assert artefact is not None
    good = Store(out).load(task.key)
    content = bytearray(artefact.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flipped": bytes(content), "cut": bytes(content[:-100])}
    artefact.write_bytes(damaged[harm]) if harm in damaged else artefact.unlink()
    done, (row,) = run(path, out)
    assert done.ran == 3  # the weights, and a window with them and without
    assert row["status"] == "done"
    made = Store(out).load(task.key)
    assert all(np.array_equal(made[name], good[name]) for name in good)


def test_a_failed_transform_fails_its_points_by_name(
    sweep_file: Callable[..., Path], tmp_path: Path, save_tiny_model: Callable[..., Path]
) -> None:
    odd = save_tiny_model("Llama", hidden_size=44, head_dim=8)
    entry = {"method": "sparsegpt", "density": 0.5, "pattern": "4:8"}
    path = sweep_file(models=[str(odd)], methods=["dense", entry])
    done, (dense, pruned) = run(path, tmp_path / "run")
    assert done.exit_code == 1
    assert dense["status"] == "done"
    assert pruned["status"] == "failed"
    assert "pattern 4:8 does not fit a matrix of 44 columns" in pruned["error"]
