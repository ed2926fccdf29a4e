"""Densities by layer: how they are written, shared out and used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods import MethodError, layers
from methods.mlp import gated_mlps

TOKENS = torch.arange(1, 41)[None]


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
)
def test_the_mean_is_the_density(logits: list[float], density: float) -> None:
    found = layers.parse(layers.spread(logits, density))
    assert sum(found) / len(found) == pytest.approx(density, abs=1e-4)
    assert all(0 < value <= 1 for value in found)
    pairs = sorted(zip(logits, found, strict=True))
    assert [d for _, d in pairs] == sorted(found)


def test_densities_go_as_the_softmax() -> None:
    low, high = layers.parse(layers.spread([0.0, math.log(2)], 0.45))
    assert (low, high) == pytest.approx((0.3, 0.6))


def test_what_a_full_layer_cannot_take_goes_to_the_others() -> None:
    assert layers.parse(layers.spread([5.0, 0.0, 0.0], 0.6)) == pytest.approx((1, 0.4, 0.4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 0.7", "mean of the densities is 0.6, but density is 0.5"),
        ("0.5 x", "numbers with spaces"),
        ("0 1", "above 0 and at most 1"),
        ("nowhere.json", "cannot be read"),
        (0.5, "densities by layer are text"),
    ],
)
def test_what_cannot_be_used_is_said(text: object, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        methods.create("dip", density=0.5, layers=text)


def test_a_file_and_its_text_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"layers": [0.4, 0.6]}))
    by_file = methods.create("dip", density=0.5, layers=str(path))
    assert by_file == methods.create("dip", density=0.5, layers="0.40 0.6")
    assert by_file.parameters()["layers"] == "0.4 0.6"


def test_each_layer_has_its_own_density(tiny_llama: Path) -> None:
    """As if each layer were pruned alone by a method of that density."""
    from sweep.inputs.models import load

    model = load(str(tiny_llama))
    asked: dict[tuple[int, str], float] = {}

    def select(layer: int, group: str, scores: torch.Tensor, density: float) -> torch.Tensor:
        asked[layer, group] = density
        return methods.topk(layer, group, scores, density)

    method = methods.create("dip", density=0.5, layers="0.3 0.7", allocation="uniform")
    with torch.inference_mode(), methods.applied(model, method, select):
        together = model(TOKENS).logits
    assert asked == {
        (0, "input"): 0.3,
        (0, "intermediate"): pytest.approx(0.3),
        (1, "input"): 0.7,
        (1, "intermediate"): pytest.approx(0.7),
    }
    views = gated_mlps(model)
    alone = []
    for view, density in zip(views, (0.3, 0.7), strict=True):
        own = methods.create("dip", density=density, allocation="uniform")
        with methods.applied(model, own):
            alone.append(view.module.forward)
    for view, forward in zip(views, alone, strict=True):
        view.module.forward = forward
    with torch.inference_mode():
        apart = model(TOKENS).logits
    assert torch.equal(together, apart)


def test_a_model_with_more_layers_is_refused(tiny_llama: Path) -> None:
    from sweep.inputs.models import load

    method = methods.create("dip", density=0.5, layers="0.5")
    with (
        pytest.raises(MethodError, match="1 densities are given, and layer 1 has none"),
        methods.applied(load(str(tiny_llama)), method),
    ):
        pass
