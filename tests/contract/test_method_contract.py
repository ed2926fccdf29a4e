"""What every method keeps, whoever wrote it: built-in, or a user's own under `register`."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MLP_SHARE, Method, MethodError, mlp_density
from methods.apply import applied
from methods.mlp import GatedMLP, gated_mlps
from methods.registry import method_class
from sweep.inputs import models

NAMES = methods.names()
PLAIN = [name for name in NAMES if not getattr(method_class(name), "trained", "")]
PRUNING = [name for name in PLAIN if method_class(name).groups]
MODELS = ("tiny_llama", "tiny_phi3", "tiny_bias")
GARBAGE = 7.5


def middle(name: str) -> float:
    """A density well inside what the method reaches."""
    low, high = methods.reachable(name)
    return (low + high) / 2


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return models.load(str(request.getfixturevalue(request.param)), "float32")


@pytest.fixture
def llama(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_value(name: str) -> None:
    """Frozen, comparable, hashable, and the same in another process."""
    method = methods.create(name, density=middle(name))
    assert method.name == name
    assert method == methods.create(name, density=middle(name))
    assert hash(method) == hash(methods.create(name, density=middle(name)))
    assert pickle.loads(pickle.dumps(method)) == method
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.density = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", NAMES)
def test_its_parameters_make_it_again(name: str) -> None:
    method = methods.create(name, density=middle(name))
    assert methods.create(name, density=method.density, **method.parameters()) == method
    assert set(method.parameters()) <= set(methods.parameter_names(name))


@pytest.mark.parametrize("name", NAMES)
def test_its_densities_are_those_of_its_groups(name: str) -> None:
    method = methods.create(name, density=middle(name))
    groups = method.group_densities()
    assert tuple(groups) == method.groups
    assert set(groups) <= set(MLP_SHARE)
    assert all(0 <= density <= 1 for density in groups.values())
    read = method.density if groups else 1.0  # without groups all that is stored is read
    assert mlp_density(groups) == pytest.approx(read)


@pytest.mark.parametrize("name", NAMES)
def test_its_reach_is_kept(name: str) -> None:
    low, high = methods.reachable(name)
    assert high == 1
    for outside in (low - 0.01, high + 0.01):
        with pytest.raises(MethodError, match=re.escape(f"out of reach of {name}")):
            methods.create(name, density=outside)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    assert len(methods.summary(name)) > 20


@pytest.mark.parametrize("name", PLAIN)
def test_it_asks_once_for_each_group_in_order(name: str, llama: nn.Module) -> None:
    method, calls = methods.create(name, density=middle(name)), []
    hidden, intermediate = 48, 96

    def watch(group: str, scores: Tensor, density: float) -> Tensor:
        units = hidden if group.endswith("input") else intermediate
        assert scores.shape == (1, 5, units)
        assert (scores >= 0).all()
        calls.append((group, density))
        return torch.ones_like(scores)

    x = torch.linspace(-1, 1, 5 * hidden).reshape(1, 5, hidden)
    with torch.no_grad():
        out = method.forward(gated_mlps(llama)[0], x, watch)
    assert calls == list(method.group_densities().items())
    assert out.shape == x.shape


@pytest.mark.parametrize("name", PLAIN)
def test_with_all_kept_it_is_the_dense_mlp_bit_for_bit(name: str, model: nn.Module) -> None:
    method = methods.create(name, density=middle(name))
    x = torch.linspace(-2, 2, 4 * 48).reshape(1, 4, 48)
    for view in gated_mlps(model):
        with torch.no_grad():
            got = method.forward(view, x, lambda group, scores, density: torch.ones_like(scores))
            assert torch.equal(got, view.module(x))


@pytest.mark.parametrize("name", PLAIN)
def test_tokens_do_not_meet(name: str, llama: nn.Module) -> None:
    """A token's output is its own: the same alone as among others, to rounding."""
    method = methods.create(name, density=middle(name))
    view = gated_mlps(llama)[0]
    x = torch.linspace(-1, 1, 6 * 48).sin().reshape(1, 6, 48)

    def chosen(group: str, scores: Tensor, density: float) -> Tensor:
        return methods.topk(0, group, scores, density)  # type: ignore[attr-defined]

    with torch.no_grad():
        together = method.forward(view, x, chosen)
        alone = [method.forward(view, x[:, i : i + 1], chosen) for i in range(6)]
    assert torch.allclose(together, torch.cat(alone, dim=1), atol=1e-5)


@pytest.mark.parametrize("name", PRUNING)
def test_a_weight_of_a_unit_that_is_not_used_is_not_read(name: str, model: nn.Module) -> None:
    """Other weights in the units that the mask leaves out change nothing (SEMANTICS 1)."""
    method = methods.create(name, density=middle(name))
    x = torch.linspace(-1, 1, 48).cos().reshape(1, 1, 48)  # one token, so one mask for each group
    view = gated_mlps(model)[1]
    masks = {group: _every_third(48 if group.endswith("input") else 96) for group in method.groups}

    def given(group: str, scores: Tensor, density: float) -> Tensor:
        return masks[group].expand_as(scores).to(scores.dtype)

    with torch.no_grad():
        expected = method.forward(view, x, given)
        for group, mask in masks.items():
            _overwrite(view.module, group, ~mask)
        assert torch.allclose(method.forward(view, x, given), expected, atol=1e-5)
        for group, mask in masks.items():
            _overwrite(view.module, group, mask)
        assert not torch.allclose(method.forward(view, x, given), expected, atol=1e-2)


def _every_third(units: int) -> Tensor:
    return torch.arange(units) % 3 == 0


def _overwrite(module: Any, group: str, units: Tensor) -> None:
    """Put garbage into the weights of these units, by the table of SEMANTICS 1."""
    fused = hasattr(module, "gate_up_proj")
    gate = module.gate_up_proj.weight[:96] if fused else module.gate_proj.weight
    up = module.gate_up_proj.weight[96:] if fused else module.up_proj.weight
    down = module.down_proj.weight
    if group.endswith("input"):
        for name, weight in (("gate", gate), ("up", up)):
            if group in ("input", f"{name}-input"):
                weight[:, units] = GARBAGE
        return
    if group in ("neuron", "gate-neuron"):
        gate[units] = GARBAGE
    if group in ("neuron", "up-neuron"):
        up[units] = GARBAGE
    down[:, units] = GARBAGE


@pytest.mark.parametrize("name", PLAIN)
def test_it_leaves_the_model_as_it_was(name: str, llama: nn.Module) -> None:
    ids = torch.arange(1, 17).reshape(1, 16)
    before = copy.deepcopy(llama.state_dict())
    with torch.no_grad():
        dense = llama(input_ids=ids).logits
        with applied(llama, methods.create(name, density=middle(name))):
            llama(input_ids=ids)
        assert torch.equal(llama(input_ids=ids).logits, dense)
    after = llama.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that a test registers are gone after it."""
    from methods import registry

    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


@pytest.mark.usefixtures("forget")
def test_a_users_own_method_is_one_like_any_other(llama: nn.Module) -> None:
    @methods.register
    @dataclasses.dataclass(frozen=True)
    class Halved(Method):
        """GLU pruning whose output is halved, so that it can be told apart."""

        name = "halved"
        groups = ("intermediate",)

        def forward(self, mlp: GatedMLP, x: Tensor, select: Callable[..., Tensor]) -> Tensor:
            glu = mlp.glu(x)
            density = self.group_densities()["intermediate"]
            return mlp.down(glu * select("intermediate", glu.abs(), density)) / 2

    assert "halved" in methods.names()
    ids = torch.arange(1, 17).reshape(1, 16)
    with applied(llama, methods.create("halved", density=1.0)), torch.no_grad():
        assert llama(input_ids=ids).logits.isfinite().all()
    with pytest.raises(MethodError, match="a method named 'glu' exists already"):
        methods.register(type("GLU2", (Halved,), {"name": "glu"}))
