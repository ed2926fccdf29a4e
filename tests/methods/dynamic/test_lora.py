"""LoRA adapters: fused as trained, resumed as uninterrupted, better than without."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import methods
from methods import MethodError, distil
from methods.apply import applied
from methods.thresholds import Quantiles, ThresholdSelect
from sweep.inputs import models
from sweep.tasks.calibrate import Statistics
from tests.methods.lessons import Kept, divergence, lesson, logits, same, windows_of

SMALL: dict[str, Any] = {"rank": 4, "steps": 6, "batch": 2, "learning_rate": 3e-4}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> NDArray[np.int64]:
    return windows_of(tiny_text)[:40]


def thresholds(model: nn.Module, windows: NDArray[np.int64]) -> ThresholdSelect:
    seen = Statistics()
    with torch.no_grad(), applied(model, methods.create("cats"), seen):
        for window in windows:
            model(input_ids=torch.from_numpy(window)[None])
    return ThresholdSelect(Quantiles.of(seen.arrays()), "layer-threshold")


@pytest.mark.parametrize("name", ["dip", "cats"])
def test_it_brings_the_sparse_model_nearer_to_the_dense_one(
    model: nn.Module, windows: Any, name: str
) -> None:
    learn, told = windows[:-6], windows[-6:]
    select = thresholds(model, learn) if name == "cats" else methods.topk  # type: ignore[attr-defined]
    method = methods.create(f"{name}+lora", 0.5, rank=8, steps=60, batch=2, learning_rate=1e-3)
    result, arrays = method.train(model, lesson(learn, select=select))
    dense = logits(model, told)
    before = divergence(dense, logits(model, told, methods.create(name, 0.5), select=select))
    after = divergence(dense, logits(model, told, method, arrays, select))
    assert after < 0.9 * before
    losses = dict(result["validation_loss"])
    assert losses[result["best_step"]] == min(losses.values())


@pytest.mark.parametrize("name", ["dip+lora", "cats+lora"])
@pytest.mark.parametrize("family", ["tiny_llama", "tiny_phi3", "tiny_bias"])
def test_fused_and_unfused_outputs_agree(
    request: pytest.FixtureRequest, windows: Any, family: str, name: str
) -> None:
    """The mask applies to the adapter too, so W + BA under the mask is what was trained."""
    model = models.load(str(request.getfixturevalue(family)), "float32").double()
    method, rng = methods.create(name, 0.6, rank=4), np.random.default_rng(0)
    with distil.adapted(model, method, 0) as adapters:  # type: ignore[arg-type]
        arrays = adapters.arrays()
        for weight in adapters.layers:  # as if trained
            b = rng.normal(0, 0.02, arrays[f"{weight}.B"].shape)
            b[adapters.frozen_rows.get(weight, slice(0))] = 0
            arrays[f"{weight}.B"] = b.astype(np.float32)
    fused = logits(model, windows[-2:], method, arrays)
    with distil.adapted(model, method, 0) as adapters:  # type: ignore[arg-type]
        adapters.set(arrays)
        with torch.no_grad(), applied(model, method):
            rows = [model(input_ids=torch.from_numpy(row)[None]).logits[0] for row in windows[-2:]]
    assert torch.allclose(fused, torch.cat(rows), atol=1e-4)
    plain = methods.create(name.removesuffix("+lora"), 0.6)
    assert not torch.allclose(fused, logits(model, windows[-2:], plain), atol=1e-2)


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_phi3"])
def test_each_method_adapts_its_projections(
    request: pytest.FixtureRequest, windows: Any, family: str
) -> None:
    model = models.load(str(request.getfixturevalue(family)), "float32")
    shapes = {}
    for name in ("dip+lora", "cats+lora"):
        kept = Kept()
        methods.create(name, 0.6, **SMALL).train(model, lesson(windows[:12], checkpoint=kept))
        arrays = {n[4:]: a for n, a in kept.saved[-1].items() if n.startswith("now ")}
        first = [n for n in arrays if n.startswith("model.layers.0.") and n.endswith(".B")]
        shapes[name] = {n.split(".")[-3]: arrays[n] for n in first}
    fused = family == "tiny_phi3"
    all_three = {"gate_up_proj", "down_proj"} if fused else {"gate_proj", "up_proj", "down_proj"}
    assert set(shapes["dip+lora"]) == all_three
    assert set(shapes["cats+lora"]) == all_three - {"gate_proj"}
    if fused:  # gate half first: CATS leaves it alone
        assert not shapes["cats+lora"]["gate_up_proj"][:96].any()
        assert shapes["dip+lora"]["gate_up_proj"][:96].any()


def test_a_seed_gives_the_same_adapters_and_leaves_the_model(
    model: nn.Module, windows: Any
) -> None:
    before, method = copy.deepcopy(model.state_dict()), methods.create("dip+lora", 0.5, **SMALL)
    first, second = (method.train(model, lesson(windows))[1] for _ in range(2))
    assert same(first, second)
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("saves", [1, 3])
def test_one_that_is_killed_ends_as_if_it_had_not_been(
    model: nn.Module, windows: Any, saves: int
) -> None:
    method, kept, said = methods.create("dip+lora", 0.5, **SMALL), Kept(saves), []
    whole = method.train(model, lesson(windows))
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows, checkpoint=kept))
    kept.fail_after = None
    resumed = method.train(model, lesson(windows, checkpoint=kept, log=said.append))
    assert said[0] == f"going on after step {saves - 1}"
    assert same(whole[1], resumed[1])
    assert whole[0] == resumed[0]


def test_weights_in_bfloat16_have_adapters_in_float32(tiny_llama: Path, windows: Any) -> None:
    model = models.load(str(tiny_llama), "bfloat16")
    method, kept = methods.create("dip+lora", 0.5, **SMALL), Kept()
    _, arrays = method.train(model, lesson(windows[:12], checkpoint=kept))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert logits(model, windows[:1], method, arrays).dtype == torch.bfloat16
    again = Kept()
    again.saved = kept.saved[:2]
    assert same(arrays, method.train(model, lesson(windows[:12], checkpoint=again))[1])


def test_training_that_does_not_help_gives_no_adapter(model: nn.Module, windows: Any) -> None:
    method = methods.create("dip+lora", 0.5, **{**SMALL, "learning_rate": 30.0})
    result, arrays = method.train(model, lesson(windows))
    assert result["best_step"] == 0
    assert all(not array.any() for name, array in arrays.items() if name.endswith(".B"))


def test_adapters_start_as_the_paper_says(model: nn.Module) -> None:
    method = methods.create("dip+lora", 0.5, rank=32)
    with distil.adapted(model, method, 0) as adapters:  # type: ignore[arg-type]
        arrays = adapters.arrays()
        assert {float(layer.scaling["default"]) for layer in adapters.layers.values()} == {1.0}
    drawn = np.concatenate([a.ravel() for n, a in arrays.items() if n.endswith(".A")])
    assert drawn.var() == pytest.approx(1 / 32, rel=0.05)
    assert not any(a.any() for n, a in arrays.items() if n.endswith(".B"))


def test_its_parameters_are_checked() -> None:
    with pytest.raises(MethodError, match=r"steps 0 of dip\+lora"):
        methods.create("dip+lora", 0.5, steps=0)
    with pytest.raises(MethodError, match="learning_rate -1"):
        methods.create("cats+lora", 0.5, learning_rate=-1)
    method = methods.create("dip+lora", 0.5)
    assert (method.parameters()["rank"], method.parameters()["steps"]) == (32, 1000)
