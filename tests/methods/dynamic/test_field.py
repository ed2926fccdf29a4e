"""HiRE, La RoSA, ShadowLLM, FFN-SkipLLM and ActiveFlow against their equations, token by token."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError, contract, rotations, scorers, shadow
from methods.apply import applied
from methods.density import kept_units
from methods.dynamic.ffn_skip import FFNSkip
from methods.mlp import gated_mlps
from methods.select import Given, topk
from methods.training import fitted
from simulator.packing import pack
from simulator.trace import Trace
from sweep.inputs import models
from sweep.measures.announcements import announced
from tests.methods.lessons import lesson, windows_of
from tests.methods.reference import PlainMLP

WINDOWS = windows_of("The layer before knows which units the layer after it will want. " * 24)


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


def trained(model: nn.Module, name: str, density: float, **parameters: Any) -> Any:
    """The method as its training left it, the arrays and what training has said."""
    method = methods.create(name, density, **parameters)
    summary, arrays = method.train(model, lesson(WINDOWS))
    json.dumps(summary)
    return method.with_state(arrays, "cpu"), arrays, summary


def largest(scores: Tensor, k: int) -> set[int]:
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    return set(order[:k])


def only(values: Tensor, units: set[int]) -> Tensor:
    keep = torch.tensor([i in units for i in range(len(values))])
    return values.masked_fill(~keep, 0.0)


# -- hire ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", ["low-rank", "low-bit"])
@torch.no_grad()
def test_hire_takes_the_exact_largest_of_the_candidates(model: nn.Module, scorer: str) -> None:
    ready, arrays, summary = trained(model, "hire", 0.4, scorer=scorer, scorer_rank=6)
    view = gated_mlps(model)[1]
    plain = PlainMLP.of(view.module, "silu")
    x = torch.randn(5, view.hidden, generator=torch.Generator().manual_seed(3))
    got = ready.forward(view, x[None], partial(topk, 1))[0]
    near: dict[str, Tensor] = {}
    for matrix in ("gate", "up"):
        part = {n.rpartition(".")[2]: torch.from_numpy(a).double() for n, a in arrays.items()
                if n.startswith(f"1.{matrix}.")}  # fmt: skip
        if scorer == "low-rank":
            near[matrix] = part["u"] @ part["v"]
        else:
            near[matrix] = part["levels"] * part["scales"][:, None]
    units = view.intermediate
    k = 3 * 0.4 / 5
    for row, own in zip(x.double(), got, strict=True):
        guess = plain.act(near["gate"] @ row) * (near["up"] @ row)
        candidates = largest(guess.abs(), kept_units(2 * k, units))
        exact = only(plain.act(plain.gate @ row) * (plain.up @ row), candidates)
        chosen = largest(exact.abs(), kept_units(k, units))
        expected = plain.down @ only(exact, chosen)
        torch.testing.assert_close(own.double(), expected, rtol=1e-4, atol=1e-4)
    assert all(0 < value <= 1 for value in summary["recall"])


def test_hire_counts_its_candidates_and_its_scorer() -> None:
    shares = methods.create("hire", 0.5).group_densities()
    assert shares == pytest.approx({"glu-neuron": 0.6, "intermediate": 0.3})
    assert (2 * shares["glu-neuron"] + shares["intermediate"]) / 3 == pytest.approx(0.5)
    full = methods.create("hire", 0.9).group_densities()
    assert full == pytest.approx({"glu-neuron": 1.0, "intermediate": 0.7})
    low_rank = methods.create("hire", 0.5, scorer_rank=8)
    assert low_rank.resident_numbers(48, 96) == 2 * 8 * (48 + 96)
    low_bit = methods.create("hire", 0.5, scorer="low-bit", scorer_bits=2)
    assert low_bit.resident_numbers(48, 96) == 2 * 96 * (48 * 2 + 16) / 16
    for wrong in ({"ratio": 0.5}, {"scorer": "best"}, {"scorer_bits": 9}, {"scorer_rank": 0}):
        with pytest.raises(MethodError, match="of hire"):
            methods.create("hire", 0.5, **wrong)


def test_more_candidates_find_more(model: nn.Module) -> None:
    found = [trained(model, "hire", 0.5, ratio=r, scorer_rank=4)[2]["recall"] for r in (1, 2, 4)]
    assert found[0][0] < found[1][0] < found[2][0]


def test_one_bit_is_a_sign_and_a_mean() -> None:
    levels, scales = scorers.rounded(torch.tensor([[1.0, -3.0], [0.5, 0.5]]), 1)
    assert levels.tolist() == [[1, -1], [1, 1]]
    assert scales.tolist() == [2.0, 0.5]


# -- la-rosa ---------------------------------------------------------------------------------


@torch.no_grad()
def test_la_rosa_prunes_the_rotated_input(model: nn.Module) -> None:
    method = methods.create("la-rosa", 0.6)
    arrays = method.train(model, lesson(WINDOWS))[1]
    view = gated_mlps(model)[1]
    plain = PlainMLP.of(view.module, "silu")
    rotation = torch.from_numpy(arrays["1.rotation"]).double()
    torch.testing.assert_close(
        rotation.T @ rotation, torch.eye(len(rotation)).double(), atol=1e-5, rtol=0
    )
    x = torch.randn(4, view.hidden, generator=torch.Generator().manual_seed(3))
    with fitted(model, method, arrays) as ready:
        got = ready.forward(gated_mlps(model)[1], x[None], partial(topk, 1))[0]
    share = method.group_densities()
    assert share == pytest.approx({"input": 1 - 0.8 * 0.4, "intermediate": 1 - 1.4 * 0.4})
    for row, own in zip(x.double(), got, strict=True):
        turned = rotation.T @ row
        turned = only(turned, largest(turned.abs(), kept_units(share["input"], len(turned))))
        back = rotation @ turned
        glu = plain.act(plain.gate @ back) * (plain.up @ back)
        glu = only(glu, largest(glu.abs(), kept_units(share["intermediate"], len(glu))))
        torch.testing.assert_close(own.double(), plain.down @ glu, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_rotated_model_is_the_dense_one_to_rounding(model: nn.Module) -> None:
    ids = torch.arange(3, 40)[None]
    dense = model(ids).logits
    method = methods.create("la-rosa", 1.0)
    arrays = method.train(model, lesson(WINDOWS))[1]
    with fitted(model, method, arrays) as ready, applied(model, ready, topk):
        torch.testing.assert_close(model(ids).logits, dense, rtol=1e-4, atol=1e-4)
    assert torch.equal(model(ids).logits, dense)


def test_the_first_axes_hold_the_most(model: nn.Module) -> None:
    summary, arrays = rotations.train(model, lesson(WINDOWS))
    assert all(half > 0.5 for half in summary["variance_in_half_by_layer"])
    moments = rotations.second_moments(model, gated_mlps(model), WINDOWS)
    turned = torch.from_numpy(arrays["0.rotation"]).double()
    variances = (turned.T @ moments[0] @ turned).diagonal()
    assert (variances.diff() <= 1e-6 * variances[0]).all()


# -- predictors of another model -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("dejavu", {"width": 8, "epochs": 1}), ("shadow-llm", {"width": 8, "epochs": 1})],
)
def test_a_predictor_of_a_model_of_another_size_is_refused(
    model: nn.Module, name: str, parameters: dict[str, Any]
) -> None:
    method = methods.create(name, 0.5, **parameters)
    arrays = method.train(model, lesson(WINDOWS))[1]
    with fitted(model, method, arrays):
        pass
    other = contract.SMALL_MODELS[0]()
    with (
        pytest.raises(MethodError, match=rf"predictor of {name} is of a model of another size"),
        fitted(other, method, arrays),
    ):
        pass


# -- shadow-llm ------------------------------------------------------------------------------


def test_what_matters_is_the_change_of_the_loss(model: nn.Module) -> None:
    """abs(A ∂L/∂A): how the loss moves as an activation shrinks, by finite differences."""
    window = WINDOWS[0][:24]
    inputs, matter = shadow.examples(model, window[None])
    assert inputs.shape == (24, gated_mlps(model)[0].hidden)
    view, token = gated_mlps(model)[1], 7
    tokens = torch.from_numpy(window)[None]

    @torch.no_grad()
    def loss(unit: int, factor: float) -> float:
        def shrunk(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            changed = args[0].clone()
            changed[0, token, unit] *= factor
            return (changed,)

        handle = view.module.get_submodule("down_proj").register_forward_pre_hook(shrunk)
        logits = model(tokens).logits[0, :-1].double()
        handle.remove()
        return float(nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum"))

    moved = [abs(loss(unit, 1.02) - loss(unit, 0.98)) for unit in range(view.intermediate)]
    k = matter.shape[2]
    chosen = set(matter[token, 1].tolist())
    best = set(np.argsort(moved)[::-1][:k].tolist())
    assert len(chosen & best) >= k - 1


@pytest.mark.parametrize("budget", ["layer", "global"])
@torch.no_grad()
def test_one_network_chooses_for_all_layers(model: nn.Module, budget: str) -> None:
    ready, _, summary = trained(
        model, "shadow-llm", 0.5, width=16, tokens=256, epochs=2, budget=budget
    )
    seen: dict[int, Tensor] = {}
    firsts: list[Tensor] = []

    def select(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        choose = Given.mask if budget == "global" else topk
        seen[layer] = choose(layer, group, scores, share).to(scores.dtype)
        return seen[layer]

    hook = gated_mlps(model)[0].module.register_forward_pre_hook(
        lambda _module, args: firsts.append(args[0])
    )
    with applied(model, ready, select):
        model(torch.arange(3, 15)[None])
    hook.remove()
    units, layers = gated_mlps(model)[0].intermediate, len(seen)
    for token in range(12):
        odds = ready._net(firsts[0][0, token].float())
        if budget == "global":
            expected = largest(odds, kept_units(0.5, layers * units))
        else:
            expected = {
                i * units + unit
                for i in range(layers)
                for unit in largest(odds[i * units : (i + 1) * units], kept_units(0.5, units))
            }
        got = {
            i * units + int(unit)
            for i, mask in seen.items()
            for unit in mask[0, token].nonzero()[:, 0]
        }
        assert got == expected
    assert len(summary["recall_by_layer"]) == layers


def test_shadow_llm_has_one_network_and_says_what_it_lacks() -> None:
    method = methods.create("shadow-llm", 0.5, width=10)
    assert method.model_weights(48, 96, 4) == 10 * (48 + 4 * 96)
    assert type(method).selector_with({"budget": "global"}) == "given"
    for wrong in ({"budget": "all"}, {"width": 0}, {"tokens": True}):
        with pytest.raises(MethodError, match="of shadow-llm"):
            methods.create("shadow-llm", 0.5, **wrong)


def _left(seen: dict[str, Tensor], _module: nn.Module, _args: Any, out: Any) -> None:
    seen["mlp"] = out[0]


def _enter(entered: Any, layer: int, _module: nn.Module, args: Any, kwargs: Any) -> None:
    entered(layer, args, kwargs)


# -- ffn-skip --------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["block", "ffn-output"])
@torch.no_grad()
def test_mlps_are_skipped_after_a_layer_that_changes_little(
    model: nn.Module, similarity: str
) -> None:
    layers = len(gated_mlps(model))
    method = FFNSkip(0.9, skips=1, cold=0, similarity=similarity)
    watched: dict[int, dict[str, Tensor]] = {i: {} for i in range(layers)}
    blocks = [model.get_submodule(f"model.layers.{i}") for i in range(layers)]
    ids = torch.arange(3, 33)[None]

    def entered(layer: int, args: Any, kwargs: Any) -> None:
        watched[layer]["before"] = (args[0] if args else kwargs["hidden_states"])[0]

    hooks = [
        block.register_forward_pre_hook(partial(_enter, entered, i), with_kwargs=True)
        for i, block in enumerate(blocks)
    ]
    hooks += [
        view.module.register_forward_hook(partial(_left, watched[view.layer]))
        for view in gated_mlps(model)
    ]
    masks: dict[int, Tensor] = {}

    def select(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        masks[layer] = scores[0]
        return scores

    threshold = 0.2 if similarity == "block" else 0.0
    with applied(model, method.at_threshold(threshold, layers), select):
        model(ids)
    for hook in hooks:
        hook.remove()
    skipped = 0
    for token in range(30):
        left, computed = 0, True
        for layer in range(layers):
            if layer:
                before = watched[layer - 1]["before"][token]
                block = similarity == "block"
                after = (
                    watched[layer]["before"][token] if block else watched[layer - 1]["mlp"][token]
                )
                cosine = float(before @ after / before.norm() / after.norm())
                if computed and cosine >= threshold:
                    left = 1
            computed = left == 0
            left = max(0, left - 1)
            skipped += not computed
            assert masks[layer][token].unique().tolist() == [float(computed)]
    assert 0 < skipped < 30 * layers


def test_the_threshold_makes_the_density_or_says_that_none_does(model: nn.Module) -> None:
    layers = len(gated_mlps(model))
    low = 1 - 0.5 * (layers // 2) / layers
    ready, arrays, summary = trained(model, "ffn-skip", low, skips=1, cold=0)
    assert summary["computed"] == pytest.approx(low, abs=0.03)
    assert summary["threshold"] == float(arrays["threshold"])
    assert ready._layers == layers
    assert len(summary["cosine_block_by_layer"]) == layers - 1
    assert len(summary["cosine_ffn_output_by_layer"]) == layers - 1
    with pytest.raises(MethodError, match=r"computes at least .* is out of reach"):
        trained(model, "ffn-skip", 0.2, skips=1, cold=0)


# -- active-flow -----------------------------------------------------------------------------


def test_announced_units_are_counted_by_distance() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((4, 9, 70)) < 0.4  # layers, tokens, units
    packed = np.stack([pack(layer) for layer in masks])
    counts = announced(Trace({"input": 70}, 4, (5, 4), {"input": packed}), 3)["input"]
    for distance in (1, 2, 3):
        both = told = used = 0
        for layer in range(4 - distance):
            for token in range(9):
                now = set(np.flatnonzero(masks[layer, token]))
                later = set(np.flatnonzero(masks[layer + distance, token]))
                both, told, used = both + len(now & later), told + len(now), used + len(later)
        assert counts[str(distance)] == [both, told, used]


def test_active_flow_is_teal_by_topk_with_attention() -> None:
    method = methods.create("active-flow", 0.5)
    assert method.groups == methods.create("teal", 0.5, attention="same").groups
    assert type(method).groups_with({}) == method.groups
    assert (type(method).selector, method.announced_layers()) == ("topk", 4)
    with pytest.raises(MethodError, match="ahead 0 of active-flow"):
        methods.create("active-flow", 0.5, ahead=0)
