"""Modes: found where values are densest, folded into biases, and no other result than the sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError, contract, modes
from methods.apply import applied
from methods.mlp import gated_mlps
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import lesson, windows_of
from tests.methods.reference import PlainMLP, kept, largest, replaced

IDS = torch.arange(3, 67)[None]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:8]


def plain(arrays: dict[str, Any], share: float) -> Any:
    """x is its mode in all inputs but those that are farthest from it."""

    def near(x: Tensor, mode: Any) -> Tensor:
        modes_ = torch.from_numpy(np.broadcast_to(mode, tuple(x.shape)).copy()).double()
        far = largest((x - modes_).abs().tolist(), kept(share, len(x)))
        return torch.stack([x[i] if i in far else modes_[i] for i in range(len(x))])

    def formula(layer: int, mlp: PlainMLP, x: Tensor) -> Tensor:
        x = near(x, arrays[f"{layer}.x_mode"])
        glu = near(mlp.up_of(x) * mlp.gate_of(x), arrays[f"{layer}.glu_mode"])
        return mlp.down @ glu + mlp.down_bias

    return formula


@pytest.mark.parametrize("mode", ["layer", "unit"])
@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3", "tiny_gelu", "tiny_bias"])
def test_it_is_its_equation(folder: str, mode: str, windows: Any, request: Any) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method = methods.create("scap", 0.5, mode=mode)
    arrays = method.train(model, lesson(windows))[1]
    with torch.no_grad():
        with fitted(model, method, arrays) as ready, applied(model, ready):
            ours = model(input_ids=IDS).logits
        with replaced(model, plain(arrays, 0.5)):
            expected = model(input_ids=IDS).logits
    assert float((ours - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("where", [-0.17, 0.0, 3.0])
def test_the_mode_is_where_values_are_densest(where: float) -> None:
    rng = np.random.default_rng(0)
    dense, wide = rng.normal(where, 0.05, 4000), rng.normal(1.0, 3.0, 2000)
    values = torch.from_numpy(np.concatenate([wide, dense]).astype(np.float32))
    (found,) = modes.half_sample_mode(values[:, None])
    assert float(found) == pytest.approx(where, abs=0.06)


def test_columns_do_not_meet_and_few_values_have_a_mode() -> None:
    values = torch.tensor([[0.0, 5.0], [1.0, 5.1], [1.1, 9.0], [4.0, 7.0]])
    assert modes.half_sample_mode(values).tolist() == pytest.approx([1.05, 5.05])
    assert modes.half_sample_mode(values[:1]).tolist() == [0.0, 5.0]


@pytest.mark.parametrize("mode", ["layer", "unit"])
def test_a_mode_is_worth_its_bias(tiny_gelu: Path, windows: Any, mode: str) -> None:
    """Where inputs lie about a value that is not zero, more is lost by pruning towards zero."""
    model = models.load(str(tiny_gelu), "float32")
    view = gated_mlps(model)[0]
    x = 1 + 0.1 * torch.randn(1, 200, 48, generator=torch.Generator().manual_seed(0))
    found = modes.shifts(view, x, by_unit=mode == "unit")
    assert found.x_mode.mean() == pytest.approx(1, abs=0.1)
    arrays = {
        f"{layer}.{name}": getattr(found, name).numpy() for name in modes._NAMES for layer in (0, 1)
    }
    scap = methods.create("scap", 0.5, mode=mode).with_state(arrays, "cpu")
    dip = methods.create("dip", 0.5, allocation="uniform")

    def chosen(group: str, scores: Tensor, share: float) -> Tensor:
        return methods.topk(0, group, scores, share)

    with torch.no_grad():
        dense = view.module(x)
        errors = [float((m.forward(view, x, chosen) - dense).norm()) for m in (scap, dip)]
    assert errors[0] < 0.5 * errors[1]


def test_what_cannot_be_used_is_said(tiny_llama: Path) -> None:
    with pytest.raises(MethodError, match="mode 'median' of scap: layer or unit is expected"):
        methods.create("scap", 0.5, mode="median")
    model: nn.Module = models.load(str(tiny_llama), "float32")
    with pytest.raises(MethodError, match="scap has no modes yet"):
        methods.create("scap").forward(gated_mlps(model)[0], IDS.float(), lambda g, s, d: s)
    for view in gated_mlps(model):
        view.module.up_act = nn.ReLU()
    with pytest.raises(MethodError, match="an MLP that activates W_up x has no place"):
        methods.create("scap", 0.5).train(model, lesson(np.ones((2, 8), np.int64)))


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_by_unit_and_with_greedy_shares_it_keeps_every_rule(rule: contract.Rule) -> None:
    rule(contract.subject_of("scap", mode="unit", shares="greedy"))
