"""DIP with masks of their own for W_up and W_gate, against the equation written out plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import methods
from methods import MethodError
from methods.apply import applied
from methods.mlp import gated_mlps
from methods.select import topk_mask


def select(layer: int, group: str, scores: torch.Tensor, density: float) -> torch.Tensor:
    k = max(1, int(density * scores.shape[-1] + 1e-9))
    return topk_mask(scores, k).to(scores.dtype)


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


@pytest.mark.parametrize(("density", "lean"), [(0.5, 0.4), (0.5, -0.3), (0.8, 0.9), (0.3, -2.0)])
def test_it_is_its_equation(model: Any, density: float, lean: float) -> None:
    method = methods.create("dip-split", density, lean=lean)
    densities = method.group_densities()
    assert sum(densities.values()) / 3 == pytest.approx(density)
    assert all(0 <= d <= 1 for d in densities.values())
    mlp = gated_mlps(model)[0]
    x = torch.randn(1, 7, mlp.hidden, generator=torch.Generator().manual_seed(1))
    gate, up, down = (getattr(mlp.module, f"{n}_proj") for n in ("gate", "up", "down"))
    with torch.no_grad():
        masks = {g: select(0, g, x.abs(), densities[g]) for g in ("up-input", "gate-input")}
        glu = mlp.act(gate(x * masks["gate-input"])) * up(x * masks["up-input"])
        kept = select(0, "intermediate", glu.abs(), densities["intermediate"])
        expected = down(glu * kept)
        with applied(model, method, select):
            assert torch.equal(mlp.module(x), expected)


def test_without_lean_it_is_uniform_dip(model: Any) -> None:
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        with applied(model, methods.create("dip-split", 0.6), select):
            ours = model(input_ids=ids).logits
        with applied(model, methods.create("dip", 0.6, allocation="uniform"), select):
            assert torch.allclose(ours, model(input_ids=ids).logits, atol=1e-5)


def test_lean_is_the_difference_where_there_is_room() -> None:
    found = methods.create("dip-split", 0.5, lean=0.4).group_densities()
    assert found == pytest.approx({"up-input": 0.7, "gate-input": 0.3, "intermediate": 0.5})
    assert methods.create("dip-split", 1.0, lean=0.4).group_densities()["gate-input"] == 1.0


def test_a_lean_that_is_no_number_is_refused() -> None:
    with pytest.raises(MethodError, match="lean of dip-split must be a number"):
        methods.create("dip-split", 0.5, lean=float("nan"))
