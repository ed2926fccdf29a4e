"""Distances, tokens left dense and pruned attention, from a sweep's file to its table."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import methods
from methods.apply import applied
from methods.select import topk
from sweep.errors import InputError
from sweep.inputs import models
from sweep.plan.materials import Materials
from sweep.plan.planner import plan_points
from sweep.store.store import Store
from tests.sweep import tinysweep

DIP = {"method": "dip", "density": 0.5}


@pytest.fixture
def asked(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> partial[Any]:
    return partial(tinysweep.sweep_of, tiny_llama, tmp_path, tiny_text)


def measured(asked: Any, out: Path, *entries: Any, **settings: Any) -> pd.DataFrame:
    return tinysweep.run(asked(*entries, **settings), out)[1]


def only(table: pd.DataFrame, method: str) -> Any:
    (row,) = [row for row in _records(table) if row["method"] == method]
    return row


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, values, strict=True)) for values in table.to_numpy()]


def test_distances_are_those_of_both_models_run_by_hand(
    asked: Any, tiny_llama: Path, tmp_path: Path
) -> None:
    table = measured(asked, tmp_path / "run", "dense", DIP, policies="none", distances=True)
    dense, dip = only(table, "dense"), only(table, "dip")
    assert (dense["kl"], dense["flip_rate"], dense["kl_high"]) == (0, 0, 0)
    sweep = asked("dense", DIP, policies="none", distances=True)
    windows = _windows(sweep)
    model = models.load(str(tiny_llama), "float32")
    kl, flips, tokens = 0.0, 0, 0
    with torch.no_grad():
        for window in windows:
            p = model(window[None]).logits[0, :-1].double().log_softmax(-1)
            with applied(model, methods.create("dip", 0.5), topk):
                q = model(window[None]).logits[0, :-1].double().log_softmax(-1)
            kl += float((p.exp() * (p - q)).sum())
            flips += int((p.argmax(-1) != q.argmax(-1)).sum())
            tokens += len(p)
    assert dip["kl"] == pytest.approx(kl / tokens, rel=1e-3, abs=1e-6)
    assert dip["flip_rate"] == pytest.approx(flips / tokens, abs=2 / tokens)
    assert dip["kl_low"] <= dip["kl"] <= dip["kl_high"]


def _windows(sweep: Any) -> torch.Tensor:
    from sweep.inputs import texts

    ids = texts.windows(sweep.text, sweep.models[0].model, 64, False, "each-window", [0, 1])
    return torch.from_numpy(ids)


def test_without_distances_keys_and_columns_are_as_before(asked: Any, tmp_path: Path) -> None:
    def keys(**settings: Any) -> set[str]:
        sweep = asked("dense", DIP, **settings)
        from sweep.plan.grid import expand

        return set(plan_points(expand(sweep).points, Materials(sweep)).tasks)

    assert keys() == keys(distances=False) == keys(dense_tokens=0)
    with_distances = keys(distances=True)
    assert len(with_distances - keys()) > 0
    assert len(with_distances & keys()) == 2  # both windows of the dense run
    row = only(measured(asked, tmp_path / "run", "dense", DIP), "dip")
    assert pd.isna(row["kl"])
    assert row["dense_tokens"] == 0


@pytest.mark.parametrize("gamma", [1, 0.5])
def test_dense_tokens_use_every_unit(asked: Any, tmp_path: Path, gamma: float) -> None:
    entry = {**DIP, "gamma": gamma, "policies": "lfu"}
    whole = only(measured(asked, tmp_path / "a", "dense", entry), "dip")
    half = only(measured(asked, tmp_path / "b", "dense", entry, dense_tokens=0.5), "dip")
    assert half["dense_tokens"] == 32
    assert half["mlp_density"] == pytest.approx((1 + whole["mlp_density"]) / 2, abs=1e-9)
    all_but_one = only(measured(asked, tmp_path / "c", "dense", entry, dense_tokens=63), "dip")
    assert all_but_one["delta_ppl"] == pytest.approx(0, abs=1e-3)  # the last predicts nothing


def test_attention_is_counted_beside_the_mlp(asked: Any, tmp_path: Path) -> None:
    entry = {"method": "teal", "density": 0.5, "attention": [0.25, "none"], "selector": "topk"}
    out = tmp_path / "run"
    table = measured(asked, out, "dense", entry, policies="lru")
    both = {
        json.loads(p)["attention"]: row
        for p, row in zip(table["parameters"], _records(table), strict=True)
        if row["method"] == "teal"
    }
    pruned, plain = both[0.25], both["none"]
    assert pruned["mlp_density"] == plain["mlp_density"]
    model = models.load(asked("dense").models[0].model, "float32")
    attention = sum(p.numel() for p in model.get_submodule("model.layers.0.self_attn").parameters())
    mlp = sum(p.numel() for p in model.get_submodule("model.layers.0.mlp").parameters())
    expected = (0.25 * attention + 0.5 * mlp) / (attention + mlp)
    assert pruned["linear_density"] == pytest.approx(expected, abs=0.01)
    assert plain["linear_density"] == pytest.approx(
        (attention + 0.5 * mlp) / (attention + mlp), abs=0.01
    )
    reads = json.loads(pruned["reads"])
    assert {"attn-input", "attn-output"} < set(reads)
    assert pruned["static_bytes"] < plain["static_bytes"]
    assert all(record.status == "done" for record in Store(out).records.values())


def test_masks_are_announced_for_each_distance(asked: Any, tmp_path: Path) -> None:
    entry = {"method": "active-flow", "density": 0.5, "ahead": 1}
    row = only(measured(asked, tmp_path / "run", "dense", entry), "active-flow")
    figures = json.loads(row["announced"])
    assert set(figures) >= {"attn-input", "gate-input", "intermediate"}
    for group in figures.values():
        assert 0 < group["1"]["recall"] == group["1"]["precision"] < 1


def test_what_cannot_be_is_said(asked: Any) -> None:
    from sweep.plan.grid import expand
    from sweep.plan.point import MethodTraits, Quant
    from sweep.plan.weight_steps import refusal
    from sweep.spec.names import FILE_BITS

    with pytest.raises(InputError, match="leaves nothing of windows of 64 tokens"):
        expand(asked("dense", DIP, dense_tokens=64))
    with pytest.raises(InputError, match="a whole number, or a part below 1"):
        expand(asked("dense", DIP, dense_tokens=1.5))
    with pytest.raises(InputError, match="decides its masks itself"):
        expand(asked("dense", {"method": "ffn-skip", "density": 0.9, "selector": "topk"}))
    by_cache = {"method": "ffn-skip", "density": 0.9, "gamma": 0.5}
    (skipped,) = expand(asked("dense", by_cache)).skipped
    assert skipped.reason.startswith("ffn-skip decides its masks itself")
    arrives_quantised = Quant(bits=FILE_BITS)
    assert "rotates weights" in refusal(arrives_quantised, MethodTraits.of("la-rosa"))
    turned = {"method": "wina", "density": 0.5, "rotation": True}
    with pytest.raises(InputError, match="wina rotates weights"):
        expand(asked(turned, quant=[{"method": "rtn"}]))
    far = asked("dense", {"method": "active-flow", "density": 0.5, "ahead": 50})
    with pytest.raises(InputError, match="announces its masks for 50 layers"):
        plan_points(expand(far).points, Materials(far))
