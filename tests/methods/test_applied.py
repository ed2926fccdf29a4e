"""Putting a method into a model: exact where nothing is pruned, gone on exit, refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods.apply import applied
from methods.mlp import UnsupportedModelError, gated_mlps
from sweep.inputs import models

IDS = torch.arange(1, 33).reshape(1, 32)
GATED = ("tiny_llama", "tiny_phi3", "tiny_gelu", "tiny_bias")


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.fixture
def llama(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("method", ["dense", "glu", "glu-oracle", "gate", "up", "dip"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_density_one_gives_the_dense_logits_bit_for_bit(
    name: str, method: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    model = models.load(str(request.getfixturevalue(name)), dtype)
    dense = logits(model)
    with applied(model, methods.create(method, density=1.0)):
        assert torch.equal(logits(model), dense)


@pytest.mark.parametrize("name", GATED)
def test_the_view_is_the_module(name: str, request: pytest.FixtureRequest) -> None:
    """Gate and up are not exchanged, and biases and activation are the module's own."""
    model = models.load(str(request.getfixturevalue(name)), "float32")
    x = torch.linspace(-1, 1, 3 * 48).reshape(1, 3, 48)
    for view in gated_mlps(model):
        assert (view.hidden, view.intermediate) == (48, 96)
        with torch.no_grad():
            assert torch.equal(view.down(view.glu(x)), view.module(x))


def test_the_fused_gate_half_comes_first(tiny_phi3: Path) -> None:
    model = models.load(str(tiny_phi3), "float32")
    (view, *_) = gated_mlps(model)
    weight = view.module.gate_up_proj.weight  # type: ignore[union-attr]
    x = torch.linspace(-1, 1, 48).reshape(1, 1, 48)
    gate, up = view.gate_up(x)
    assert torch.allclose(gate, x @ weight[:96].T, atol=1e-5)  # type: ignore[index]
    assert torch.allclose(up, x @ weight[96:].T, atol=1e-5)  # type: ignore[index]


def test_biases_are_kept_where_all_else_is_pruned(tiny_bias: Path) -> None:
    """With no input used, GLU~ is that of the biases alone; the bias of W_down is added always."""
    model = models.load(str(tiny_bias), "float32")

    def nothing(layer: int, group: str, scores: Tensor, density: float) -> Tensor:
        return torch.zeros_like(scores) if group == "input" else torch.ones_like(scores)

    with applied(model, methods.create("dip", density=0.5), nothing) as views, torch.no_grad():
        for view in views:
            module: Any = view.module
            gate = module.act_fn(module.gate_proj.bias)
            expected = module.down_proj(gate * module.up_proj.bias)
            assert torch.allclose(module(torch.ones(1, 1, 48)), expected, atol=1e-6)


def test_the_model_is_as_before_on_exit(llama: nn.Module) -> None:
    dense, before = logits(llama), [dict(v.module.__dict__) for v in gated_mlps(llama)]
    with applied(llama, methods.create("dip", density=0.4)):
        assert not torch.equal(logits(llama), dense)
    assert torch.equal(logits(llama), dense)
    after = [v.module.__dict__ for v in gated_mlps(llama)]
    assert [set(d) for d in after] == [set(d) for d in before]


def test_the_model_is_as_before_after_an_error(llama: nn.Module) -> None:
    dense = logits(llama)

    def broken(layer: int, group: str, scores: Tensor, density: float) -> Tensor:
        if layer == 1:
            raise RuntimeError("no mask today")
        return torch.ones_like(scores)

    with (
        pytest.raises(RuntimeError, match="no mask today"),
        applied(llama, methods.create("up", density=0.5), broken),
    ):
        logits(llama)
    assert torch.equal(logits(llama), dense)
    assert all("forward" not in v.module.__dict__ for v in gated_mlps(llama))


def test_a_forward_that_was_replaced_before_is_put_back(llama: nn.Module) -> None:
    module = gated_mlps(llama)[0].module

    def silent(x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    module.forward = silent
    with applied(llama, methods.create("glu", density=0.8)):
        assert module.forward is not silent
    assert module.forward is silent


def test_nested_methods_unwind_in_order(llama: nn.Module) -> None:
    dense = logits(llama)
    with applied(llama, methods.create("glu", density=0.7)):
        glu = logits(llama)
        with applied(llama, methods.create("up", density=0.5)):
            assert not torch.equal(logits(llama), glu)
        assert torch.equal(logits(llama), glu)
    assert torch.equal(logits(llama), dense)


def test_select_is_called_in_forward_order_with_the_groups_own_density(llama: nn.Module) -> None:
    calls: list[tuple[int, str, tuple[int, ...], float]] = []

    def watch(layer: int, group: str, scores: Tensor, density: float) -> Tensor:
        assert (scores >= 0).all()
        calls.append((layer, group, tuple(scores.shape), density))
        return torch.ones_like(scores)

    dip = methods.create("dip", density=0.5)
    with applied(llama, dip, watch):
        logits(llama)
    d_in, d_mid = dip.group_densities().values()
    inputs, mids = ((1, 32, 48), d_in), ((1, 32, 96), d_mid)
    layer = [("input", *inputs), ("intermediate", *mids)]
    assert calls == [(n, *call) for n in (0, 1) for call in layer]


def test_an_ungated_mlp_is_refused_by_name(tiny_ungated: Path) -> None:
    model = models.load(str(tiny_ungated), "float32")
    with (
        pytest.raises(UnsupportedModelError, match=r"layers\.0\.mlp \(NemotronMLP\).*not a gated"),
        applied(model, methods.create("glu", density=0.8)),
    ):
        pass


def test_a_mixture_of_experts_is_refused_by_name(save_tiny_model: Callable[..., Path]) -> None:
    folder = save_tiny_model("Mixtral", num_local_experts=2, num_experts_per_tok=1)
    model = models.load(str(folder), "float32")
    with (
        pytest.raises(UnsupportedModelError, match=r"layers\.0.*mixture of experts"),
        applied(model, methods.create("dip", density=0.8)),
    ):
        pass


def test_a_shared_expert_is_not_taken_for_the_mlp(save_tiny_model: Callable[..., Path]) -> None:
    folder = save_tiny_model(
        "Qwen2Moe",
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=64,
    )
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        gated_mlps(models.load(str(folder), "float32"))


@pytest.mark.parametrize("family", ["Mistral", "Qwen2", "Gemma"])
def test_other_gated_families_are_viewed(family: str, save_tiny_model: Callable[..., Path]) -> None:
    config = {"head_dim": 12} if family == "Gemma" else {}
    model = models.load(str(save_tiny_model(family, **config)), "float32")
    dense = logits(model)
    with applied(model, methods.create("dip", density=1.0)) as views:
        assert len(views) == 2
        assert torch.equal(logits(model), dense)


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="Linear has no decoder"):
        gated_mlps(nn.Linear(2, 2))
