"""Another activation in a model: what it computes, that it goes, and that weights learn it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from methods.activation_training import learnt, split
from methods.activations import counted_zeros, swapped
from methods.apply import applied, weights_replaced
from methods.base import MethodError
from methods.mlp import UnsupportedModelError, gated_mlps
from methods.registry import create
from sweep.inputs import models

TOKENS = torch.randint(1, 256, (12, 1, 48), generator=torch.Generator().manual_seed(0))
SILENT: Callable[[str], None] = lambda _text: None  # noqa: E731


def plain(module: Any, x: Tensor, activation: str) -> Tensor:
    """The three equations, from the weights."""
    if hasattr(module, "gate_up_proj"):
        gate, up = (x @ module.gate_up_proj.weight.T).chunk(2, -1)
    else:
        gate, up = (linear(module, name, x) for name in ("gate_proj", "up_proj"))
    zero = torch.zeros(())
    gate = torch.maximum(gate, zero)
    gate = gate * gate if activation == "relu2" else gate
    up = torch.maximum(up, zero) if activation == "drelu" else up
    return linear(module, "down_proj", gate * up)


def linear(module: Any, name: str, x: Tensor) -> Tensor:
    part = getattr(module, name)
    product = x @ part.weight.T
    return product if part.bias is None else product + part.bias


@pytest.mark.parametrize("activation", ["relu", "drelu", "relu2"])
@pytest.mark.parametrize("family", ["tiny_llama", "tiny_phi3", "tiny_gelu", "tiny_bias"])
def test_each_is_its_equation_and_gone_afterwards(
    family: str, activation: str, request: pytest.FixtureRequest
) -> None:
    model = models.load(str(request.getfixturevalue(family)))
    x = torch.randn(5, 48, generator=torch.Generator().manual_seed(1))
    module: Any = gated_mlps(model)[1].module
    before, names = module(x), list(vars(module)) + list(module._modules)
    with swapped(model, activation):
        torch.testing.assert_close(module(x), plain(module, x, activation))
        with applied(model, create("dip", density=1.0)):
            torch.testing.assert_close(module(x), plain(module, x, activation))
    assert torch.equal(module(x), before)
    assert sorted(list(vars(module)) + list(module._modules)) == sorted(names)


def test_a_model_without_gates_and_an_unknown_activation_are_refused(
    tiny_ungated: Path, tiny_llama: Path
) -> None:
    with pytest.raises(UnsupportedModelError), swapped(models.load(str(tiny_ungated)), "relu"):
        pass
    with pytest.raises(MethodError, match="known: relu, drelu, relu2"):
        swapped(models.load(str(tiny_llama)), "swish").__enter__()


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0.3, 0.7), ("drelu", 0.6, 0.9)])
def test_zeros_are_counted_exactly(
    tiny_llama: Path, activation: str, low: float, high: float
) -> None:
    model = models.load(str(tiny_llama))
    glus: list[Tensor] = []
    with swapped(model, activation), counted_zeros(model) as zeros, torch.no_grad():
        hooks = [
            view.module.get_submodule("down_proj").register_forward_pre_hook(
                lambda _module, args: glus.append(args[0])
            )
            for view in gated_mlps(model)
        ]
        model(input_ids=TOKENS[0])
    for hook in hooks:
        hook.remove()
    assert zeros.share == float((torch.cat(glus) == 0).double().mean())
    assert low < zeros.share < high


def divergence(model: nn.Module, wanted: Tensor) -> float:
    with torch.no_grad():
        given = torch.cat([model(input_ids=w).logits[0] for w in TOKENS]).log_softmax(-1)
    return float(kl_div(given, wanted, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("activation", ["relu", "drelu", "relu2"])
def test_weights_learn_the_activation(tiny_llama: Path, activation: str) -> None:
    model = models.load(str(tiny_llama))
    with torch.no_grad():
        wanted = torch.cat([model(input_ids=w).logits[0] for w in TOKENS]).log_softmax(-1)
    learn, held = split(list(TOKENS), 8)
    result, arrays = learnt(model, activation, learn, 3 * 11 * 48, 0, held, SILENT)
    assert divergence(model, wanted) == 0  # the model is as it was
    with swapped(model, activation):
        zero_shot = divergence(model, wanted)
        with weights_replaced(model, arrays):
            distilled = divergence(model, wanted)
            on_held = [float(divergence_of(model, w, wanted)) for w in (11,)]
    assert distilled < 0.9 * zero_shot
    kl = result["validation_kl"]
    assert kl["together"] == pytest.approx(on_held[0], rel=1e-4)
    assert kl["together"] < kl["swapped"]
    assert all(".mlp." in name for name in arrays)


def divergence_of(model: nn.Module, row: int, wanted: Tensor) -> Tensor:
    with torch.no_grad():
        given = model(input_ids=TOKENS[row]).logits[0].log_softmax(-1)
    return kl_div(given, wanted[row * 48 : row * 48 + 48], log_target=True, reduction="batchmean")


def test_the_seed_alone_decides_and_no_tokens_need_no_windows(tiny_llama: Path) -> None:
    model = models.load(str(tiny_llama))
    first, again, other = (
        learnt(model, "relu", list(TOKENS), 6 * 48, seed, (), SILENT)[1] for seed in (1, 1, 2)
    )
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    with pytest.raises(ValueError, match="needs 2 at least"):
        split(list(TOKENS[:1]), 8)
