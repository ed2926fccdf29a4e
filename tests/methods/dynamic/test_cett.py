"""One relative error for all layers, against norms taken token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods import contract, relative_error, share_search
from methods.apply import applied
from methods.mlp import gated_mlps
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import lesson, windows_of
from tests.methods.reference import PlainMLP, kept, largest, layers_of, replaced

IDS = torch.arange(3, 67)[None]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:8]


def sizes(mlp: PlainMLP, x: Tensor) -> Tensor:
    """||z_i W_down[:, i]|| of every neuron."""
    z = mlp.up_of(x) * mlp.gate_of(x)
    return torch.stack([(z[i] * mlp.down[:, i]).norm() for i in range(len(z))])


def neurons(share: float) -> Any:
    def formula(_layer: int, mlp: PlainMLP, x: Tensor) -> Tensor:
        units = largest(sizes(mlp, x).tolist(), kept(share, mlp.sizes[1]))
        return mlp.only(units, units).dense(x)

    return formula


@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3", "tiny_bias"])
def test_it_is_its_equation(folder: str, request: Any) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    with torch.no_grad():
        with applied(model, methods.create("cett", 0.4, shares="uniform")):
            ours = model(input_ids=IDS).logits
        with replaced(model, neurons(0.4)):
            expected = model(input_ids=IDS).logits
    assert float((ours - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def plain_cett(mlp: PlainMLP, x: Tensor, threshold: float) -> float:
    errors = []
    for token in x:
        z = mlp.up_of(token) * mlp.gate_of(token)
        out = [i for i, size in enumerate(sizes(mlp, token)) if size < threshold]
        left = sum((z[i] * mlp.down[:, i] for i in out), torch.zeros(mlp.sizes[0]).double())
        errors.append(float(left.norm() / (mlp.down @ z).norm()))
    return float(np.mean(errors))


def test_the_curve_is_that_of_its_definition(model: nn.Module, windows: Any) -> None:
    view, mlp = gated_mlps(model)[1], PlainMLP.of(layers_of(model)[1], "silu")
    x = share_search.dense_inputs(model, [view], windows[:2])[1]
    shares, errors = relative_error.curve(view, x)
    assert (shares[0], errors[0], shares[-1], errors[-1]) == (1, 0, 0, 1)
    every = torch.stack([sizes(mlp, token) for token in x[0].double()]).flatten().sort().values
    for rung in (4, 20, 36):
        threshold = float(every[rung * len(every) // 40]) * (1 - 1e-6)
        assert shares[rung] == pytest.approx(1 - rung / 40, abs=1e-3)
        assert errors[rung] == pytest.approx(plain_cett(mlp, x[0].double(), threshold), rel=1e-4)


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_all_layers_have_one_cett_and_the_mean_share_is_the_density(
    model: nn.Module, windows: Any, density: float
) -> None:
    method = methods.create("cett", density)
    result, arrays = method.train(model, lesson(windows))
    with fitted(model, method, arrays) as ready:
        found = [ready.at(view.layer).group_densities()["neuron"] for view in gated_mlps(model)]
    assert sum(found) / 2 == pytest.approx(density, abs=1e-6)
    assert found[0] != found[1]
    cett = relative_error.cett_at(arrays, density)
    assert cett == pytest.approx(result["cett_by_density"][f"{density:g}"])
    inputs = share_search.dense_inputs(model, gated_mlps(model), windows)
    for layer, share in enumerate(found):
        mlp = PlainMLP.of(layers_of(model)[layer], "silu")
        every = torch.stack([sizes(mlp, token) for token in inputs[layer][0].double()]).flatten()
        threshold = float(every.quantile(1 - share))
        measured = plain_cett(mlp, inputs[layer][0].double(), threshold)
        assert measured == pytest.approx(cett, abs=0.01)


def test_zeros_cost_nothing() -> None:
    """After a ReLU, all shares above that of what is not zero have an error of nothing."""
    shares = np.array([[1.0, 0.75, 0.5, 0.25, 0.0]] * 2)
    errors = np.array([[0, 0, 0, 0.4, 1.0], [0, 0.1, 0.3, 0.6, 1.0]])
    arrays = {"cett.shares": shares, "cett.errors": errors}
    first, second = relative_error.shares(arrays, 0.7)
    assert first + second == pytest.approx(1.4)
    assert first == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("shares", ["cett", "sensitivity"])
@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_with_any_shares_it_keeps_every_rule(shares: str, rule: contract.Rule) -> None:
    rule(contract.subject_of("cett", shares=shares))
