"""What every method keeps, whoever wrote it: the rules of `methods.contract`, and real models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import Method, MethodError, contract
from methods.apply import applied
from methods.experts.rules import Rule
from methods.mlp import GatedMLP, gated_mlps
from methods.registry import method_class
from sweep.inputs import models

NAMES = tuple(n for n in methods.names() if not issubclass(method_class(n), Rule))
"""Rules that choose experts are tried on mixtures of experts: tests/methods/experts."""
PLAIN = [name for name in NAMES if not contract.subject_of(name).make().trained]
MODELS = ("tiny_llama", "tiny_phi3", "tiny_bias")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def llama(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@functools.cache
def subject(name: str) -> contract.Subject:
    """One for all rules, so that what has to be trained is trained once."""
    return contract.subject_of(name)


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_every_rule(name: str, rule: contract.Rule) -> None:
    rule(subject(name))


@pytest.mark.parametrize("folder", MODELS)
@pytest.mark.parametrize("name", PLAIN)
def test_and_on_model_classes_that_are_in_use(
    name: str, folder: str, request: pytest.FixtureRequest
) -> None:
    path = str(request.getfixturevalue(folder))
    real = contract.subject_of(name, lambda: models.load(path, "float32"))
    for rule in contract.ON_MODELS:
        rule(real)


@pytest.mark.parametrize("folder", MODELS)
@pytest.mark.parametrize("name", PLAIN)
def test_with_all_kept_it_is_the_dense_mlp_bit_for_bit(
    name: str, folder: str, request: pytest.FixtureRequest
) -> None:
    """Closer than the rule asks of a user's own."""
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method = contract.subject_of(name).make()
    x = torch.linspace(-2, 2, 4 * 48).reshape(1, 4, 48)
    for view in gated_mlps(model):
        with torch.no_grad():
            got = method.forward(view, x, lambda group, scores, density: torch.ones_like(scores))
            assert torch.equal(got, view.module(x))


def test_a_method_that_leaves_out_more_than_it_says_is_caught() -> None:
    @methods.register
    @dataclasses.dataclass(frozen=True)
    class Silent(Method):
        """Says that it prunes columns of W_down, and reads none of them."""

        name = "silent"
        groups = ("intermediate",)

        def forward(self, mlp: GatedMLP, x: Tensor, select: Callable[..., Tensor]) -> Tensor:
            select("intermediate", mlp.glu(x).abs(), self.group_densities()["intermediate"])
            return torch.zeros_like(x)

    with pytest.raises(contract.BrokenError, match="units of intermediate change nothing"):
        contract.it_reads_what_it_keeps(contract.subject_of("silent"))


@pytest.mark.parametrize("name", NAMES)
def test_ours_reach_a_density_of_one_and_name_what_is_out_of_reach(name: str) -> None:
    assert methods.reachable(name)[1] == 1
    with pytest.raises(MethodError, match="out of reach of " + name.replace("+", r"\+")):
        methods.create(name, density=1.01)


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
