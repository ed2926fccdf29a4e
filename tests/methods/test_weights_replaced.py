"""Weights that take the place of a model's own for the length of a `with` block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from methods.apply import weight_array, weights_replaced


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_replaces_by_name_and_restores(model: nn.Sequential) -> None:
    x = torch.ones(1, 3)
    before, storage = model(x), weight(model).data_ptr()
    with weights_replaced(model, {"0.weight": new()}):
        assert not torch.equal(model(x), before)
    assert torch.equal(model(x), before)
    assert weight(model).data_ptr() == storage


def test_restores_after_an_error(model: nn.Sequential) -> None:
    before = weight(model).clone()
    with pytest.raises(RuntimeError), weights_replaced(model, {"0.weight": new()}):
        model(torch.ones(1, 5))
    assert torch.equal(weight(model), before)


def test_takes_read_only_arrays_without_a_copy(model: nn.Sequential) -> None:
    array = new().numpy()
    array.flags.writeable = False
    with weights_replaced(model, {"0.weight": array}):
        assert weight(model).data_ptr() == array.ctypes.data


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_arrays_carry_every_float_type_exactly(model: nn.Sequential, dtype: torch.dtype) -> None:
    model = model.to(dtype)
    array = weight_array(new().to(dtype) / 3)
    with weights_replaced(model, {"0.weight": array}):
        assert torch.equal(weight(model), new().to(dtype) / 3)
        assert weight(model).dtype == dtype


def test_wider_weights_are_brought_to_the_type_of_the_model(model: nn.Sequential) -> None:
    with weights_replaced(model, {"1.bias": np.array([0.1, 0.2], np.float64)}):
        assert bias(model, 1).tolist() == pytest.approx([0.1, 0.2])
        assert bias(model, 1).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("2.weight", (4, 3), "no parameter '2.weight'"), ("0.weight", (3, 4), "0.weight is")],
)
def test_refuses_what_the_model_lacks(
    model: nn.Sequential, name: str, shape: tuple[int, ...], message: str
) -> None:
    before = bias(model, 0).clone()
    weights = {"0.bias": np.zeros(4, np.float32), name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=message), weights_replaced(model, weights):
        pass
    assert torch.equal(bias(model, 0), before)


def new() -> torch.Tensor:
    return torch.arange(12.0).reshape(4, 3)


def weight(model: nn.Sequential) -> torch.Tensor:
    return dict(model.named_parameters())["0.weight"]


def bias(model: nn.Sequential, layer: int) -> torch.Tensor:
    return dict(model.named_parameters())[f"{layer}.bias"]
