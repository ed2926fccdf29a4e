"""WINA on rotated weights: orthogonal columns, the dense model's logits, and its equation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError, contract, singular
from methods.apply import applied, weights_replaced
from methods.attention import attentions, weight_of
from methods.density import kept_units
from methods.matrices import weight
from methods.mlp import gated_mlps
from methods.select import topk
from methods.training import fitted
from sweep.inputs import models
from sweep.tasks.train_by_trials import TPEStudy
from tests.methods.lessons import lesson, windows_of
from tests.methods.reference import PlainMLP, largest
from tests.methods.test_block_search import trial_lesson

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.arange(3, 40)[None]


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:4]


@torch.no_grad()
@pytest.mark.parametrize("attention", ["none", "same"])
def test_the_rotated_dense_model_is_the_dense_one_to_rounding(
    model: nn.Module, windows: Any, attention: str
) -> None:
    dense = model(IDS).logits
    method = methods.create("wina", 1.0, rotation=True, attention=attention)
    arrays = method.train(model, lesson(windows))[1]
    with fitted(model, method, arrays) as ready, applied(model, ready, topk):
        rotated = model(IDS).logits
    torch.testing.assert_close(rotated, dense, rtol=1e-4, atol=1e-4)
    assert not torch.equal(rotated, dense)
    assert torch.equal(model(IDS).logits, dense)


@torch.no_grad()
def test_columns_are_orthogonal_and_their_norms_the_singular_values(
    model: nn.Module, windows: Any
) -> None:
    method = methods.create("wina", 0.5, rotation=True, attention="same")
    summary, arrays = method.train(model, lesson(windows))
    assert all(0.5 < half < 1 for half in summary["gate_in_half_by_layer"])
    values = torch.linalg.svdvals(weight(gated_mlps(model)[1], "gate").double())
    with weights_replaced(model, method.weights(model, arrays)):
        gate = weight(gated_mlps(model)[1], "gate").double()
        stacked = torch.cat([weight_of(part) for part in attentions(model)[0].inputs]).double()
    for matrix in (gate, stacked):
        products = matrix.T @ matrix
        beside = products - torch.diag(products.diagonal())
        assert beside.abs().max() < 1e-5 * products.diagonal().max()
    torch.testing.assert_close(gate.norm(dim=0), values, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_prunes_the_rotated_input(model: nn.Module, windows: Any) -> None:
    method = methods.create("wina", 0.5, rotation=True)
    arrays = method.train(model, lesson(windows))[1]
    view = gated_mlps(model)[1]
    plain = PlainMLP.of(view.module, "silu")
    rotation = torch.linalg.svd(plain.gate, full_matrices=False)[2].T
    x = torch.randn(4, view.hidden, generator=torch.Generator().manual_seed(3))
    with fitted(model, method, arrays) as ready:
        got = ready.forward(gated_mlps(model)[1], x[None], partial(topk, 1))[0]

    def product(matrix: Tensor, given: Tensor) -> Tensor:
        scores = given.abs() * matrix.norm(dim=0)
        columns = list(largest(scores.tolist(), kept_units(0.5, len(given))))
        return matrix[:, columns] @ given[columns]

    for row, own in zip(x.double(), got, strict=True):
        turned = rotation.T @ row
        gate, up = product(plain.gate @ rotation, turned), product(plain.up @ rotation, turned)
        expected = product(plain.down, plain.act(gate) * up)
        torch.testing.assert_close(own.double(), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_prunes_the_rotated_input_of_attention(model: nn.Module, windows: Any) -> None:
    method = methods.create("wina", 0.5, rotation=True, attention=0.4)
    arrays = method.train(model, lesson(windows))[1]
    view = attentions(model)[1]
    stacked = torch.cat([weight_of(part) for part in view.inputs]).double()
    rotation = torch.linalg.svd(stacked, full_matrices=False)[2].T
    x = torch.randn(3, view.hidden, generator=torch.Generator().manual_seed(5))
    with fitted(model, method, arrays) as ready:
        made = ready.attention_input(attentions(model)[1], x[None], partial(topk, 1))[0]
        got = torch.cat([weight_of(part) for part in view.inputs]) @ made.T
    for row, own in zip(x.double(), got.T, strict=True):
        turned = rotation.T @ row
        scores = turned.abs() * (stacked @ rotation).norm(dim=0)
        columns = list(largest(scores.tolist(), kept_units(0.4, len(row))))
        expected = (stacked @ rotation)[:, columns] @ turned[columns]
        torch.testing.assert_close(own.double(), expected, rtol=1e-4, atol=1e-4)


def test_shares_are_those_without_the_rotation(model: nn.Module, windows: Any) -> None:
    greedy, tpe = (
        methods.create("wina", 0.5, shares=name, trials=3, rotation=True)
        for name in ("greedy", "tpe")
    )
    path = methods.create("wina", 0.5, shares="greedy").train(model, lesson(windows))[1]
    arrays = greedy.train(model, lesson(windows))[1]
    assert (arrays["shares.path"] == path["shares.path"]).all()
    summary, found = tpe.train(model, trial_lesson(windows, make_study=TPEStudy))
    assert set(found) == {*arrays, "shares.blocks"}
    assert summary["loss"] <= summary["loss_of_equal_layers"]


def test_what_it_takes_and_what_it_refuses() -> None:
    turned = methods.create("wina", 0.5, rotation=True)
    both = methods.create("wina", 0.5, rotation=True, attention="same")
    assert turned.trained == both.trained == "once"
    assert turned.overhead_weights(10, 20) == 100
    assert both.overhead_weights(10, 20) == 200
    assert methods.create("wina", 0.5).overhead_weights(10, 20) == 0
    assert singular.KINDS == ("rotation", "attention-rotation")
    with pytest.raises(MethodError, match="rotation of wina: true or false"):
        methods.create("wina", 0.5, rotation="yes")


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_it_keeps_every_rule(rule: contract.Rule) -> None:
    rule(contract.subject_of("wina", rotation=True))
