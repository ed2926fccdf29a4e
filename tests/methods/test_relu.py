"""Models with another activation than SiLU: it is the model's own that every method uses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import methods
from methods.mlp import gated_mlps
from simulator import Geometry
from sweep.inputs import model_ref as weights
from sweep.inputs import models
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


@pytest.fixture
def turbosparse(save_tiny_model: Callable[..., Path], tmp_path: Path) -> nn.Module:
    """Files as TurboSparse-Mistral's: an architecture with code of its own, and predictors."""
    folder = tmp_path / "turbosparse"
    shutil.copytree(save_tiny_model("Mistral", hidden_act="relu"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "bamboo", "architectures": ["BambooForCausalLM"]}
    config["auto_map"] = {
        "AutoConfig": "configuration_bamboo.BambooConfig",
        "AutoModelForCausalLM": "modeling_bamboo.BambooForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_bamboo", "modeling_bamboo"):
        (folder / f"{name}.py").write_text("raise SystemExit('code of a model was run')")
    weights_of = load_file(folder / "model.safetensors")
    weights_of["model.layers.0.mlp.predictor.fc1.weight"] = torch.zeros(4, 48)
    save_file(weights_of, folder / "model.safetensors", {"format": "pt"})
    return models.load(str(folder), "float32")


def test_turbosparse_runs_without_its_own_code(turbosparse: nn.Module) -> None:
    """dReLU: ReLU on gate and up, which the view of the MLP knows; zero where either is."""
    view = gated_mlps(turbosparse)[0]
    x = torch.linspace(-1, 1, 480).sin().reshape(1, 10, 48)
    with torch.no_grad():
        mlp: Any = view.module
        gate, up = mlp.gate_proj(x), mlp.up_proj(x)
        assert torch.equal(view.glu(x), gate.relu() * up.relu())
        assert torch.equal(mlp(x), view.down(view.glu(x)))
        assert 0.5 < float((view.glu(x) == 0).float().mean()) < 0.95


def test_turbosparse_is_as_before_when_nothing_is_pruned(
    turbosparse: nn.Module, tiny_text: str
) -> None:
    told = windows_of(tiny_text)[-3:]
    plain = logits(turbosparse, told)
    assert torch.equal(logits(turbosparse, told, methods.create("dip", 1.0)), plain)
    assert divergence(plain, logits(turbosparse, told, methods.create("glu-oracle", 0.8))) < 1e-9
    for name in ("cats", "dip"):
        assert divergence(plain, logits(turbosparse, told, methods.create(name, 0.4))) > 0


def test_relu_models_have_names() -> None:
    assert weights.HUB_IDS["relu-llama-7b"] == "SparseLLM/ReluLLaMA-7B"
    assert weights.HUB_IDS["turbosparse-mistral-7b"] == "PowerInfer/TurboSparse-Mistral-Instruct"
    relu, swiglu = Geometry.load("relu-llama-7b"), Geometry.load("llama-2-7b")
    assert relu.mlp_weights == swiglu.mlp_weights == 3 * 4096 * 11008
    assert Geometry.load("turbosparse-mistral-7b").hidden == Geometry.load("mistral-7b").hidden
