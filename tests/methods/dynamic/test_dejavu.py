"""Predictors: trained alike from a seed, found in a checkpoint, worse than the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import methods
from methods import MethodError, predictors
from methods.mlp import gated_mlps
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import Kept, divergence, lesson, logits, same, windows_of

SMALL: dict[str, Any] = {"width": 64, "epochs": 6}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> NDArray[np.int64]:
    return windows_of(tiny_text)[:40]


def test_a_seed_gives_the_same_predictors_twice(model: nn.Module, windows: Any) -> None:
    method = methods.create("dejavu", 0.5, **SMALL)
    (result, first), (again, second) = (method.train(model, lesson(windows)) for _ in range(2))
    assert same(first, second)
    assert result == again
    assert not same(first, method.train(model, lesson(windows, seed=4))[1])


def test_one_that_is_killed_goes_on_after_the_layers_that_are_done(
    model: nn.Module, windows: Any
) -> None:
    method, kept, said = methods.create("dejavu", 0.5, **SMALL), Kept(fail_after=1), []
    whole = method.train(model, lesson(windows))
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows, checkpoint=kept))
    kept.fail_after = None
    resumed = method.train(model, lesson(windows, checkpoint=kept, log=said.append))
    assert said[0] == "going on after 1 of 2 layers"
    assert len(said) == 2
    assert same(whole[1], resumed[1])
    assert whole[0] == resumed[0]


def test_layers_that_do_not_fit_into_memory_are_collected_in_turn(
    model: nn.Module, windows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = methods.create("dejavu", 0.5, **SMALL)
    whole = method.train(model, lesson(windows))[1]
    monkeypatch.setattr(predictors, "MEMORY_BYTES", 1)
    assert same(whole, method.train(model, lesson(windows))[1])


def test_the_targets_are_the_largest_of_each_token(model: nn.Module) -> None:
    view = gated_mlps(model)[0]
    x = torch.linspace(-1, 1, 7 * 48).mul(9).sin().reshape(7, 48)
    with torch.no_grad():
        glu = view.glu(x).abs()
        targets = predictors._targets(view, x)
    assert targets.sum(-1).tolist() == [9] * 7  # 10 % of 96
    for token in range(7):
        assert glu[token][targets[token]].min() > glu[token][~targets[token]].max()


def test_a_zero_is_no_target(model: nn.Module) -> None:
    """A ReLU leaves fewer than 10 % of a sparse token's units; the rest need not be found."""
    view = gated_mlps(model)[0]
    assert predictors._targets(view, torch.zeros(3, 48)).sum() == 0


def test_recall_and_precision_are_counted_on_validation_tokens(
    model: nn.Module, windows: Any
) -> None:
    method = methods.create("dejavu", 0.5, **SMALL)
    plan = lesson(windows)
    result, arrays = method.train(model, plan)
    _, held = plan.split()
    wanted = predicted = hits = 0
    with torch.no_grad(), fitted(model, method, arrays) as ready:
        views = gated_mlps(model)
        inputs = predictors._mlp_inputs(model, views, held)
        for view in views:
            x = inputs[view.layer]
            found, targets = ready.odds(view.layer, x) > 1, predictors._targets(view, x)  # type: ignore[attr-defined]
            wanted += int(targets.sum())
            predicted += int(found.sum())
            hits += int((found & targets).sum())
    assert result["recall"] == pytest.approx(hits / wanted)
    assert result["precision"] == pytest.approx(hits / predicted)
    assert len(result["recall_by_layer"]) == 2
    assert 0.1 < result["recall_of_largest"] <= 1  # chance is 0.1


def test_the_oracle_beats_the_predictors_which_beat_chance(model: nn.Module, windows: Any) -> None:
    learn, told = windows[:-4], windows[-4:]
    method = methods.create("dejavu", 0.5, width=128, epochs=20)
    _, arrays = method.train(model, lesson(learn))
    dense = logits(model, told)
    oracle = divergence(dense, logits(model, told, methods.create("glu-oracle", 0.5)))
    predicted = divergence(dense, logits(model, told, method, arrays))
    turned: dict[str, Any] = {
        name: np.negative(array) for name, array in arrays.items() if name.split(".")[1] == "2"
    }
    opposite = divergence(dense, logits(model, told, method, {**arrays, **turned}))
    assert oracle < predicted < opposite


def test_its_forward_is_equation_6(model: nn.Module, windows: Any) -> None:
    method = methods.create("dejavu", 0.25, **SMALL)
    _, arrays = method.train(model, lesson(windows))
    view = gated_mlps(model)[1]
    x = torch.linspace(-1, 1, 3 * 48).cos().reshape(1, 3, 48)
    first, second = (arrays[f"1.{n}.weight"].astype(np.float64) for n in (0, 2))
    biases = [arrays[f"1.{n}.bias"].astype(np.float64) for n in (0, 2)]
    with torch.no_grad(), fitted(model, method, arrays) as ready:
        got = ready.forward(view, x, lambda g, s, d: methods.topk(1, g, s, d))  # type: ignore[attr-defined]
        glu = view.glu(x)
    for token in range(3):
        hidden = np.maximum(0, first @ x[0, token].double().numpy() + biases[0])
        kept = np.argsort(-(second @ hidden + biases[1]), kind="stable")[:24]
        sparse = torch.zeros(96)
        sparse[kept] = glu[0, token][kept]
        assert torch.allclose(got[0, token], view.down(sparse), atol=1e-5)


def test_its_predictors_are_overhead_and_its_parameters_are_checked() -> None:
    method = methods.create("dejavu", 0.5)
    assert method.overhead_weights(576, 1536) == 1000 * (576 + 1536)
    assert method.training_windows(2048) == 16
    with pytest.raises(MethodError, match="width 0 of dejavu"):
        methods.create("dejavu", 0.5, width=0)


def test_untrained_it_says_so(model: nn.Module, windows: Any) -> None:
    with pytest.raises(ValueError, match="dejavu must be trained"):
        logits(model, windows[:1], methods.create("dejavu", 0.5))
