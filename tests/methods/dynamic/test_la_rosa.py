"""La RoSA with attention, and quantised after its rotation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Phi3Config

import methods
from methods import MethodError, contract, head_rotations
from methods.apply import applied, run_layers
from methods.attention import attentions, weight_of
from methods.density import kept_units
from methods.matrices import weight
from methods.mlp import UnsupportedModelError, gated_mlps
from methods.rounded import kept
from methods.select import topk
from methods.static.after_rotation import rounded
from methods.static.gptq import GPTQ
from methods.static.recipe import Recipe
from methods.static.rtn import RTN
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import lesson, windows_of
from tests.methods.reference import largest

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.arange(3, 40)[None]


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:4]


def fused() -> nn.Module:
    """One module for queries, keys and values; four heads with the values of two."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("make", ["separate", "fused"])
def test_the_rotated_dense_model_is_the_dense_one_to_rounding(
    model: nn.Module, windows: Any, make: str
) -> None:
    model = model if make == "separate" else fused()
    dense = model(IDS).logits
    method = methods.create("la-rosa", 1.0, attention="same")
    arrays = method.train(model, lesson(windows))[1]
    with fitted(model, method, arrays) as ready, applied(model, ready, topk):
        rotated = model(IDS).logits
    torch.testing.assert_close(rotated, dense, rtol=1e-4, atol=1e-4)
    assert not torch.equal(rotated, dense)
    assert torch.equal(model(IDS).logits, dense)


@torch.no_grad()
def test_rotations_are_the_axes_of_what_comes_in(model: nn.Module, windows: Any) -> None:
    arrays = head_rotations.found(model, lesson(windows))
    view = attentions(model)[1]
    heads = head_rotations.heads_of(view)
    seen: dict[str, list[Tensor]] = {"in": [], "out": []}
    hooks = [
        view.inputs[0].register_forward_pre_hook(lambda _m, args: seen["in"].append(args[0][0])),
        view.output.register_forward_pre_hook(lambda _m, args: seen["out"].append(args[0][0])),
    ]
    for window in windows:
        run_layers(model, torch.from_numpy(window)[None])
    for hook in hooks:
        hook.remove()
    axes = torch.from_numpy(arrays["1.attention-rotation"]).double()
    x = torch.cat(seen["in"]).double()
    variances = (x @ axes).square().sum(0)
    assert (variances.diff() <= 1e-6 * variances[0]).all()
    torch.testing.assert_close(variances.sum(), x.square().sum())
    of_heads = torch.cat(seen["out"]).double().reshape(-1, heads.values, heads.queries, heads.size)
    rotations = torch.from_numpy(arrays["1.value-rotation"]).double()
    for head in range(heads.values):
        turned = (of_heads[:, head] @ rotations[head]).square().sum((0, 1))
        assert (turned.diff() <= 1e-5 * turned[0]).all()


@torch.no_grad()
def test_it_prunes_the_rotated_inputs_of_attention(model: nn.Module, windows: Any) -> None:
    method = methods.create("la-rosa", 0.6, attention=0.4)
    arrays = method.train(model, lesson(windows))[1]
    view = attentions(model)[1]
    stacked = torch.cat([weight_of(part) for part in view.inputs[:2]]).double()  # W_q and W_k
    rotation = torch.from_numpy(arrays["1.attention-rotation"]).double()
    x = torch.randn(3, view.hidden, generator=torch.Generator().manual_seed(5))
    with fitted(model, method, arrays) as ready:
        own = attentions(model)[1]
        made = ready.attention_input(own, x[None], partial(topk, 1))[0]
        got = torch.cat([weight_of(part) for part in own.inputs[:2]]) @ made.T
        inner = ready.attention_output(own, x[None, :, : own.width], partial(topk, 1))[0]
    for row, product in zip(x.double(), got.T, strict=True):
        turned = rotation.T @ row
        columns = list(largest(turned.abs().tolist(), kept_units(0.4, len(row))))
        expected = stacked @ rotation[:, columns] @ turned[columns]
        torch.testing.assert_close(product.double(), expected, rtol=1e-4, atol=1e-4)
    assert ((inner != 0).sum(1) == kept_units(0.4, view.width)).all()


@torch.no_grad()
def test_output_and_values_compute_what_they_did(model: nn.Module, windows: Any) -> None:
    """W_o (R^T v) of one head is W_o v: what is pruned is in the basis of R."""
    arrays = head_rotations.found(model, lesson(windows))
    view = attentions(model)[0]
    heads = head_rotations.heads_of(view)
    new = head_rotations.rotated(model, arrays)
    rotations = torch.from_numpy(arrays["0.value-rotation"])
    for head in range(heads.values * heads.queries):
        columns = slice(head * heads.size, (head + 1) * heads.size)
        own = weight_of(view.output)[:, columns] @ rotations[head // heads.queries]
        torch.testing.assert_close(new[f"{view.path}.o_proj.weight"][:, columns], own)


class _Gated(nn.Module):
    """An output projection after a gate on each of its inputs."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.out_features, self.in_features = inner, *inner.weight.shape
        self.weight = inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x * torch.linspace(-1, 1, x.shape[-1]), self.weight)


def test_values_that_are_gated_are_refused(model: nn.Module, windows: Any) -> None:
    for view in attentions(model):
        view.module.o_proj = _Gated(view.output)
    with pytest.raises(UnsupportedModelError, match="does more with values"):
        head_rotations.found(model, lesson(windows))


def test_what_it_takes_and_what_it_refuses() -> None:
    plain, both = (methods.create("la-rosa", 0.5, attention=a) for a in ("none", "same"))
    assert plain.groups == ("input", "intermediate")
    assert both.groups == ("attn-input", "attn-output", "input", "intermediate")
    assert both.group_densities() == {"attn-input": 0.5, "attn-output": 0.5} | (
        plain.group_densities()
    )
    assert (plain.overhead_weights(10, 20), both.overhead_weights(10, 20)) == (100, 200)
    with pytest.raises(MethodError, match="attention 'all' of la-rosa"):
        methods.create("la-rosa", 0.5, attention="all")
    for method in (plain, both):
        with pytest.raises(MethodError, match="no rotations"):
            applied_to_nothing(method)


def applied_to_nothing(method: Any) -> None:
    view: Any = None
    if method.attention != "none":
        method.attention_input(view, torch.ones(1, 4), topk)
    method.forward(view, torch.ones(1, 4), topk)


BY_ITSELF = [rule for rule in contract.RULES if rule not in contract.ON_MODELS]


@pytest.mark.parametrize("rule", BY_ITSELF, ids=lambda rule: rule.__name__)
def test_with_attention_it_keeps_the_rules_of_a_method_by_itself(rule: contract.Rule) -> None:
    rule(contract.subject_of("la-rosa", attention="same"))


# -- before a quantiser ----------------------------------------------------------------------


def quantised(model: nn.Module, by: Any, windows: Any, attention: str) -> tuple[Any, Any]:
    method = methods.create("la-rosa", 1.0, attention=attention)
    arrays = method.train(model, lesson(windows))[1]
    return method, arrays | rounded(model, method, arrays, windows, Recipe(None, by))


@torch.no_grad()
def test_what_is_rounded_is_the_rotated_weight(model: nn.Module, windows: Any) -> None:
    by = RTN(bits=4, group_size=16)
    method, arrays = quantised(model, by, windows, "same")
    old = gated_mlps(model)[1]
    rotation = torch.from_numpy(arrays["1.rotation"]).double()
    with fitted(model, method, arrays):
        new = weight(gated_mlps(model)[1], "gate").clone()
        down = weight(gated_mlps(model)[1], "down").clone()
    turned = (weight(old, "gate").double() @ rotation).float()
    torch.testing.assert_close(new, by.quantised(turned, None, 0))
    torch.testing.assert_close(down, by.quantised(weight(old, "down"), None, 0))
    names = {f"model.layers.0.self_attn.{name}_proj.weight" for name in "qkvo"}
    assert names < set(kept(arrays))


@torch.no_grad()
@pytest.mark.parametrize("attention", ["none", "same"])
def test_gptq_learns_from_rotated_inputs(model: nn.Module, windows: Any, attention: str) -> None:
    by = GPTQ(bits=3, group_size=16)
    method, arrays = quantised(model, by, windows, attention)
    view = attentions(model)[0]
    rows: list[Tensor] = []
    hook = view.inputs[0].register_forward_pre_hook(lambda _m, args: rows.append(args[0][0]))
    for window in windows:
        run_layers(model, torch.from_numpy(window)[None])
    hook.remove()
    x = torch.cat(rows)
    turned = torch.eye(view.hidden)
    if attention == "same":
        turned = torch.from_numpy(arrays["0.attention-rotation"])
    moments = (x @ turned).T @ (x @ turned)
    expected = by.quantised(weight_of(view.inputs[0]) @ turned, moments, 0)
    with fitted(model, method, arrays):
        got = weight_of(attentions(model)[0].inputs[0]).clone()
    levels = (expected - got).abs().max() / expected.abs().max()
    assert levels < 0.2  # a weight at the edge of two levels may fall to either
    assert ((expected - got).abs() > 1e-5).float().mean() < 0.02


@torch.no_grad()
def test_it_is_near_the_dense_model_with_eight_bits(model: nn.Module, windows: Any) -> None:
    dense = model(IDS).logits
    method, arrays = quantised(model, GPTQ(bits=8, group_size=16), windows, "same")
    with fitted(model, method, arrays) as ready, applied(model, ready, topk):
        rounded_logits = model(IDS).logits
    assert (rounded_logits - dense).norm() < 0.05 * dense.norm()
    assert not torch.equal(rounded_logits, dense)
