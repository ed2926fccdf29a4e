"""The view of routed experts: each family's own logits come through it, and others are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.experts import apply
from methods.experts.apply import routed
from methods.experts.inside import expert_mlp
from methods.experts.view import Event, by_score, routed_layers
from methods.mlp import UnsupportedModelError
from methods.registry import create
from simulator.experts import Experts
from sweep.sizes import experts as sizes
from tests import moe
from tests.zoo import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
each_family = pytest.mark.parametrize("kind", moe.KINDS)


@each_family
def test_the_routers_own_choice_gives_the_models_own_logits(kind: str) -> None:
    model = moe.model_of(kind)
    seen: list[Event] = []

    def stock(event: Event) -> Tensor:
        seen.append(event)
        return event.stock.clone()

    with routed(model, stock) as layers:
        through = moe.logits(model)
    assert torch.equal(through, moe.logits(model))
    assert [event.view.index for event in seen] == list(range(len(layers)))
    assert all((event.stock.sum(dim=-1) == event.view.chosen).all() for event in seen)
    best = [by_score(e.scores, torch.ones_like(e.stock))[0][:, : e.view.chosen] for e in seen]
    for event, order in zip(seen, best, strict=True):
        assert torch.equal(torch.zeros_like(event.stock).scatter_(1, order, True), event.stock)


@each_family
def test_its_weights_are_those_of_the_family(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written a second time, for choices that are not the router's own."""

    def always(event: Event, chosen: Tensor, weights: Tensor, experts: Tensor) -> Any:
        own, valid = by_score(event.scores, chosen)
        return event.view.family.weights(event.view.router, event.logits, own, valid), own

    model = moe.model_of(kind)
    monkeypatch.setattr(apply, "_mixed", always)
    plain = moe.logits(model)
    with routed(model, lambda event: event.stock.clone()):
        assert torch.allclose(moe.logits(model), plain, atol=1e-6)


@each_family
def test_experts_are_gated_mlps_one_by_one(kind: str) -> None:
    model = moe.model_of(kind)
    plain = moe.logits(model)
    with routed(model, lambda event: None, create("glu", 1.0)):
        assert torch.allclose(moe.logits(model), plain, atol=1e-5)


@each_family
def test_fewer_experts_than_others_of_the_window(kind: str) -> None:
    """A token whose last expert is left out gets what the rest of its experts give."""
    model = moe.model_of(kind)
    layer = routed_layers(model)[0]
    hidden = torch.randn(3, layer.hidden, generator=torch.Generator().manual_seed(1))

    def without_last(event: Event) -> Tensor:
        chosen = event.stock.clone()
        order, _ = by_score(event.scores, chosen)
        chosen[1, order[1, -1]] = False
        return chosen

    with routed(model, without_last), torch.no_grad():
        logits, weights, experts = layer.router(hidden)
        mixed = layer.experts(hidden, experts, weights)
    kept = experts[1][weights[1] != 0]
    assert len(kept) == layer.chosen - 1
    with torch.no_grad():
        alone = [expert_mlp(layer, int(expert)) for expert in kept]
        own = [mlp.down(mlp.glu(hidden[1:2]))[0] for mlp in alone]
    expected = sum(w * out for w, out in zip(weights[1][weights[1] != 0], own, strict=True))
    assert torch.allclose(mixed[1], torch.as_tensor(expected), atol=1e-5)
    assert logits.shape == (3, layer.count)


@each_family
def test_its_geometry_has_every_weight(kind: str) -> None:
    model = moe.model_of(kind)
    geometry = sizes.of_config(model.config.to_dict(), kind)
    layers = routed_layers(model)
    experts = geometry.experts
    assert isinstance(experts, Experts)
    assert experts.layers == len(layers)
    first = layers[0]
    own = (experts.count, experts.chosen, experts.intermediate)
    assert own == (first.count, first.chosen, first.intermediate)
    biases = ("_proj_bias",)  # norms and biases are not counted
    matrices = sum(
        p.numel() for n, p in model.named_parameters() if p.dim() > 1 and not n.endswith(biases)
    )
    router_biases = sum(p.numel() for n, p in model.named_parameters() if n.endswith("router.bias"))
    assert geometry.weights == matrices + router_biases


def test_a_model_is_as_before() -> None:
    model = moe.model_of("mixtral")
    before = [dict(vars(part)) for part in model.modules()]
    with pytest.raises(ZeroDivisionError), routed(model, lambda event: 1 // 0):  # type: ignore[arg-type]
        moe.logits(model)
    assert [dict(vars(part)) for part in model.modules()] == before


def test_others_are_refused_by_name() -> None:
    config = tiny.small_config("ernie4_5_moe")
    with torch.device("meta"):
        other = tiny._made("ernie4_5_moe", config)
    with pytest.raises(
        UnsupportedModelError, match=r"the experts of ernie4_5_moe have no view.*mix"
    ):
        routed_layers(other)
    with pytest.raises(UnsupportedModelError, match="the experts of Linear have no view"):
        routed_layers(nn.Linear(2, 2))
    assert sizes.family_of(config.to_dict()) == ""


def test_groups_of_experts_are_kept() -> None:
    """DeepSeek-V3 with two groups of which one is chosen: no expert of the other can be."""
    model = moe.model_of("deepseek_v3", n_group=2, topk_group=1)
    seen: list[Event] = []
    with routed(model, lambda event: seen.append(event)):
        moe.logits(model)
    for event in seen:
        assert (event.scores.isinf().sum(dim=-1) == 2).all()
        assert not (event.stock & event.scores.isinf()).any()
