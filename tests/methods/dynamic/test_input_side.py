"""Methods that prune inputs of each matrix, against plain equations for one token at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError
from methods.apply import applied
from methods.shared import Shared
from methods.thresholds import Quantiles, ThresholdSelect
from sweep.inputs import models
from sweep.tasks.calibrate import Statistics
from tests.methods.reference import PlainMLP, kept, largest, replaced

IDS = torch.arange(3, 67)[None]


pytestmark = pytest.mark.usefixtures("one_thread")


SHARES = {"gate-input": 0.6, "up-input": 0.4, "intermediate": 0.5}

Weigh = Callable[[Tensor], Tensor]
"""What the columns of a matrix [outputs, inputs] weigh their inputs by: [inputs]."""


def even(matrix: Tensor) -> Tensor:
    return torch.ones(matrix.shape[1], dtype=matrix.dtype)


def two_norm(matrix: Tensor) -> Tensor:
    return (matrix**2).sum(0).sqrt()


def one_norm(matrix: Tensor) -> Tensor:
    return matrix.abs().sum(0)


def root_of_one_norm(matrix: Tensor) -> Tensor:
    return one_norm(matrix).sqrt()


CASES: list[tuple[str, dict[str, Any], tuple[Weigh, Weigh, Weigh]]] = [
    ("teal", {}, (even, even, even)),
    ("wina", {}, (two_norm, two_norm, two_norm)),
    ("wina", {"variant": "code"}, (two_norm, even, even)),
    ("was", {}, (one_norm, one_norm, one_norm)),
    ("was", {"exponent": 0.5}, (root_of_one_norm, root_of_one_norm, root_of_one_norm)),
    ("was", {"exponent": 0}, (even, even, even)),
]


def kept_product(matrix: Tensor, x: Tensor, weigh: Weigh, share: float) -> Tensor:
    """matrix @ x over the columns that are kept, one after the other."""
    scores = (x.abs() * weigh(matrix)).tolist()
    total = torch.zeros(matrix.shape[0], dtype=matrix.dtype)
    for column in sorted(largest(scores, kept(share, len(scores)))):
        total = total + matrix[:, column] * x[column]
    return total


def plain(weigh: tuple[Weigh, Weigh, Weigh], shares: dict[str, float]) -> Any:
    def formula(_layer: int, mlp: PlainMLP, x: Tensor) -> Tensor:
        gate = kept_product(mlp.gate, x, weigh[0], shares["gate-input"]) + mlp.gate_bias
        up = kept_product(mlp.up, x, weigh[1], shares["up-input"]) + mlp.up_bias
        glu = mlp.act(gate) * up
        return kept_product(mlp.down, glu, weigh[2], shares["intermediate"]) + mlp.down_bias

    return formula


@pytest.mark.parametrize("shares", [SHARES, dict.fromkeys(SHARES, 0.5)], ids=["own", "uniform"])
@pytest.mark.parametrize(("name", "parameters", "weigh"), CASES)
@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3", "tiny_bias"])
def test_it_is_its_equation(
    folder: str, name: str, parameters: Any, weigh: Any, shares: Any, request: Any
) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method = methods.create(name, 0.5, shares=shares, **parameters)
    with torch.no_grad():
        with applied(model, method):
            ours = model(input_ids=IDS).logits
        with replaced(model, plain(weigh, shares)):
            expected = model(input_ids=IDS).logits
    assert float((ours - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.mark.parametrize("name", ["teal", "was"])
def test_thresholds_meet_the_density_in_the_mean(model: nn.Module, name: str) -> None:
    """On the text that they are of, each layer by its own: what is pruned before moves a little."""
    method, seen = methods.create(name, 0.5), Statistics()
    with torch.no_grad(), applied(model, methods.create(name, 1.0), seen):
        model(input_ids=IDS)
    quantiles = Quantiles.of(seen.arrays())
    select, asked = ThresholdSelect(quantiles, method.selector), []

    def watch(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        mask = select(layer, group, scores, share)
        asked.append(mask.mean())
        return mask

    with torch.no_grad(), applied(model, method, watch):
        model(input_ids=IDS)
    assert len(asked) == 6
    assert float(torch.stack(asked).mean()) == pytest.approx(0.5, abs=0.05)
    assert float(torch.stack(asked[:2]).mean()) == pytest.approx(0.5, abs=0.005)


def test_norms_are_resident_and_counted() -> None:
    def numbers(name: str, **parameters: Any) -> int:
        method = methods.create(name, 0.5, **parameters)
        assert isinstance(method, Shared)
        return method.resident_numbers(576, 1536)

    assert numbers("teal") == 0
    assert numbers("wina") == 576 + 576 + 1536
    assert numbers("wina", variant="code") == 576
    assert numbers("was") == 576 + 576 + 1536


def test_parameters_that_make_no_sense_are_refused() -> None:
    with pytest.raises(MethodError, match="variant 'papr' of wina: paper or code is expected"):
        methods.create("wina", 0.5, variant="papr")
    for exponent in (-1, 5, "1", True):
        with pytest.raises(MethodError, match=r"exponent .* of was: a number from 0 to 4"):
            methods.create("was", 0.5, exponent=exponent)
