"""Groups of attention: the view, the masks of its projections, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError, attention_search
from methods.apply import applied
from methods.attention import attentions, weight_of
from methods.density import kept_units
from methods.mlp import UnsupportedModelError
from methods.select import topk
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import lesson, windows_of

ATTENTION = ("attn-input", "attn-output")
WINDOWS = windows_of("A word is a unit of a column, and a column is a word of units. " * 16)


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


def fused(**changed: Any) -> nn.Module:
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 64}
    torch.manual_seed(0)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return Phi3ForCausalLM(Phi3Config(**{**sizes, **ids, **changed})).eval()


def masked(x: Tensor, scores: Tensor, share: float) -> Tensor:
    """Row by row, in python: the largest scores stay, ties go to the lower unit."""
    out = torch.zeros_like(x)
    for row, own, values in zip(out, scores, x, strict=True):
        order = sorted(range(len(own)), key=lambda i: (-float(own[i]), i))
        for unit in order[: kept_units(share, len(own))]:
            row[unit] = values[unit]
    return out


@pytest.mark.parametrize("name", ["teal", "wina", "was"])
@pytest.mark.parametrize("kind", ["separate", "fused"])
@torch.no_grad()
def test_masks_are_those_of_the_equation(name: str, kind: str, model: nn.Module) -> None:
    """Each projection gets the columns whose score is largest, of all its matrices together."""
    if kind == "fused":
        model = fused()
    ids = torch.arange(3, 15)[None]
    view = attentions(model)[1]
    method = methods.create(name, 0.5, attention=0.4)
    given: dict[str, Tensor] = {}
    into = type(method).pruned_attention  # type: ignore[attr-defined]

    def watched(self: Any, attention: Any, group: str, x: Tensor, select_: Any) -> Tensor:
        made = into(self, attention, group, x, select_)
        if attention.layer == 1:
            given[group] = x[0]
            given[f"{group} pruned"] = made[0]
        return made

    with pytest.MonkeyPatch.context() as patch, applied(model, method, topk):
        patch.setattr(type(method), "pruned_attention", watched)
        model(ids)
    for group, modules in (("attn-input", view.inputs), ("attn-output", (view.output,))):
        x = given[group]
        weights = torch.cat([weight_of(module).double() for module in modules])
        norms = {
            "teal": torch.ones(x.shape[-1]),
            "wina": weights.norm(dim=0),
            "was": weights.abs().sum(dim=0),
        }[name]
        expected = masked(x, x.abs() * norms.to(x.dtype), 0.4)
        torch.testing.assert_close(given[f"{group} pruned"], expected)


@torch.no_grad()
def test_queries_keys_and_values_get_the_pruned_input_and_the_model_is_as_before(
    model: nn.Module,
) -> None:
    ids = torch.arange(3, 15)[None]
    dense = model(ids).logits
    inputs: dict[str, Tensor] = {}
    view = attentions(model)[0]
    names = ("q", "k", "v", "o")
    linears = dict(zip(names, (*view.inputs, view.output), strict=True))
    with applied(model, methods.create("teal", 1.0, attention=0.25)):
        for name, linear in linears.items():
            # what the replaced forward hands to the linear map itself
            linear.forward = _spied(linear.forward, linear, inputs, name)
        sparse = model(ids).logits
    assert not torch.equal(sparse, dense)
    for name in ("q", "k", "v"):
        assert ((inputs[name] != 0).sum(-1) == kept_units(0.25, view.hidden)).all()
    assert ((inputs["o"] != 0).sum(-1) <= kept_units(0.25, view.width)).all()
    assert torch.equal(model(ids).logits, dense)
    assert all("forward" not in vars(linear) for linear in linears.values())


def _spied(forward: Any, linear: nn.Module, inputs: dict[str, Tensor], name: str) -> Any:
    """A forward that keeps what reaches `F.linear` of this module."""

    def run(x: Tensor) -> Tensor:
        plain = nn.functional.linear

        def keep(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            if weight is linear.weight:
                inputs[name] = value
            return plain(value, weight, bias)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.functional, "linear", keep)
            return forward(x)

    return run


def test_a_share_is_none_that_of_the_mlp_or_a_number() -> None:
    teal = methods.create("teal", 0.5)
    assert teal.groups == ("gate-input", "up-input", "intermediate")
    same = methods.create("teal", 0.6, attention="same")
    assert same.groups[:2] == ATTENTION
    assert same.group_densities()["attn-output"] == 0.6
    assert methods.create("teal", 0.6, attention=0.25).group_densities()["attn-input"] == 0.25
    for wrong in ("half", 0, 1.5, True, None):
        with pytest.raises(MethodError, match="none, same, or a share above 0 and up to 1"):
            methods.create("teal", 0.5, attention=wrong)


def test_attention_without_a_view_is_refused_by_name() -> None:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    torch.manual_seed(0)
    latent = DeepseekV3ForCausalLM(
        DeepseekV3Config(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            first_k_dense_replace=1,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=8,
            vocab_size=64,
        )
    )
    with pytest.raises(UnsupportedModelError, match=r"DeepseekV3Attention.*has no view"):
        attentions(latent)


def test_layers_of_different_size_are_refused(model: nn.Module) -> None:
    model.get_submodule("model.layers.1.self_attn").o_proj = nn.Linear(8, 16)
    with pytest.raises(UnsupportedModelError, match="layers 1 has another size than that of"):
        attentions(model)


@pytest.mark.parametrize("shares", ["greedy", "sensitivity", "sensitivity+greedy"])
def test_calibrated_shares_have_the_mean_that_is_asked_for(model: nn.Module, shares: str) -> None:
    """Weighed by the matrices, over all layers."""
    method = methods.create("teal", 0.6, attention=0.5, shares=shares)
    arrays = method.train(model, lesson(WINDOWS))[1]
    parts = arrays["attention.parts"]
    with fitted(model, method, arrays) as ready:
        rows = [ready.at(view.layer).group_densities() for view in attentions(model)]
    means = [sum(p * row[g] for p, g in zip(parts, ATTENTION, strict=True)) for row in rows]
    assert sum(means) / len(means) == pytest.approx(0.5, abs=1e-6)
    weights = attentions(model)[0].weights
    assert parts[0] == pytest.approx(weights["attn-input"] / sum(weights.values()))


def test_the_greedy_path_takes_the_step_of_least_error(model: nn.Module) -> None:
    method = methods.create("teal", 0.6, attention=0.5, shares="greedy")
    arrays = method.train(model, lesson(WINDOWS))[1]
    views = attentions(model)
    calls = attention_search.dense_calls(model, views, WINDOWS)
    for view in views:
        error = attention_search.error_of(
            methods.create("teal", 0.6, attention=0.5),  # type: ignore[arg-type]
            view,
            calls[view.layer],
        )
        path = arrays["attention.path"][view.layer]
        assert path[0].tolist() == [1, 1]
        assert path[-1].tolist() == [0, 0]
        first = path[1]
        lowered = int(first[0] == 1)  # the group that gave up a step
        other = [1.0, 1.0]
        other[1 - lowered] = 1 - 0.05 / 2 / arrays["attention.parts"][1 - lowered]
        assert error(tuple(first)) <= error(tuple(other))
