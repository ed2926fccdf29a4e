"""Models with another activation than SiLU: it is the model's own that every method uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import methods
from methods.mlp import gated_mlps
from simulator import Geometry
from sweep import models, weights
from tests.methods.lessons import divergence, lesson, logits, windows_of


@pytest.fixture
def relu(save_tiny_model: Callable[..., Path]) -> nn.Module:
    return models.load(str(save_tiny_model("Llama", hidden_act="relu")), "float32")


def test_the_activation_is_read_from_the_model(relu: nn.Module) -> None:
    view = gated_mlps(relu)[0]
    values = torch.tensor([-2.0, -0.5, 0.0, 3.0])
    assert view.act(values).tolist() == [0.0, 0.0, 0.0, 3.0]
    with torch.no_grad():
        glu = view.glu(torch.linspace(-1, 1, 480).sin().reshape(1, 10, 48))
    assert 0.3 < float((glu == 0).float().mean()) < 0.7


def test_half_of_a_relu_model_is_free_to_prune_and_of_a_swiglu_model_is_not(
    relu: nn.Module, tiny_llama: Path, tiny_text: str
) -> None:
    """Figure 6: zeros cost nothing to leave out, where one knows where they are."""
    told, oracle = windows_of(tiny_text)[-3:], methods.create("glu-oracle", 0.7)
    swiglu = models.load(str(tiny_llama), "float32")
    lost = [
        divergence(logits(model, told), logits(model, told, oracle)) for model in (relu, swiglu)
    ]
    assert lost[0] < 1e-9
    assert lost[1] > 1e-5


@pytest.mark.parametrize("name", ["cats", "dip", "dejavu"])
def test_methods_run_on_it(relu: nn.Module, tiny_text: str, name: str) -> None:
    windows = windows_of(tiny_text)[:12]
    small: dict[str, Any] = {"width": 16, "epochs": 2} if name == "dejavu" else {}
    method = methods.create(name, 0.6, **small)
    arrays = method.train(relu, lesson(windows))[1] if method.trained else None
    assert divergence(logits(relu, windows), logits(relu, windows, method, arrays)) > 0


def test_relu_models_have_names() -> None:
    assert weights.HUB_IDS["relu-llama-7b"] == "SparseLLM/ReluLLaMA-7B"
    assert weights.HUB_IDS["turbosparse-mistral-7b"] == "PowerInfer/TurboSparse-Mistral-Instruct"
    relu, swiglu = Geometry.load("relu-llama-7b"), Geometry.load("llama-2-7b")
    assert relu.mlp_weights == swiglu.mlp_weights == 3 * 4096 * 11008
