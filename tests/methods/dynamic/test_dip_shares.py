"""DIP with shares by group and layer: its equation, its density, and shares by distances."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import methods
from methods import MethodError, group_sensitivity, lagrange, shares
from methods.apply import applied
from methods.mlp import gated_mlps
from methods.registry import reachable
from methods.select import topk
from methods.share_tables import GROUP_SENSITIVITY
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import Kept, lesson, same, windows_of

pytestmark = pytest.mark.usefixtures("one_thread")
GROUPS = ("input", "intermediate")
TEXT = "A token uses what it needs; the rest stays where it is. " * 6
OWN = {"input": [0.5, 0.7], "intermediate": [0.4, 0.6]}


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


def test_with_the_shares_of_dip_it_is_dip(model: nn.Module) -> None:
    dip = methods.create("dip", 0.6)
    row = dip.group_densities()
    own = methods.create("dip-shares", 0.6, shares={k: [v, v] for k, v in row.items()})
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        with applied(model, dip):
            expected = model(input_ids=ids).logits
        with applied(model, own):
            assert torch.equal(model(input_ids=ids).logits, expected)


def test_the_density_of_given_shares_need_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "shares.json"
    path.write_text(json.dumps({"shares": OWN, "model": "mine"}))
    density = (2 * 0.6 + 0.5) / 3
    for given in (OWN, str(path), "0.5 0.4; 0.7 0.6"):
        low, high = reachable("dip-shares", shares=given)
        assert low == high == pytest.approx(density, abs=1e-4)
        method = methods.create("dip-shares", low, shares=given)
        assert method.at(1).group_densities() == {"input": 0.7, "intermediate": 0.6}
        assert methods.create("dip-shares", low, **method.parameters()) == method
    assert reachable("dip-shares") == (0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": 0.5}, "groups input, intermediate are expected"),
        ({"input": "x", "intermediate": 0.5}, "numbers are expected"),
        ("nowhere.json", "nowhere.json cannot be read"),
        ("0.5; 0.5 0.5", "one share for each of input"),
    ],
)
def test_what_cannot_be_used_is_said(given: object, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        methods.create("dip-shares", 0.5, shares=given)


# -- shares by distances ---------------------------------------------------------------------


def distance_of(model: nn.Module, layer: int, row: tuple[float, ...], windows: np.ndarray) -> float:
    """Mean KL of one layer pruned by hand, from its equation."""
    view, total = gated_mlps(model)[layer], []
    for window in windows:
        ids = torch.from_numpy(window)[None]
        dense = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        before = view.module.forward

        def pruned(x: torch.Tensor) -> torch.Tensor:
            x = x * topk(0, "input", x.abs(), row[0])
            glu = view.glu(x)
            return view.down(glu * topk(0, "intermediate", glu.abs(), row[1]))

        view.module.forward = pruned
        sparse = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        view.module.forward = before
        total.append(float((dense.exp() * (dense - sparse)).sum(-1).mean()))
    return float(np.mean(total))


def test_distances_are_those_of_one_group_of_one_layer(model: nn.Module) -> None:
    method = methods.create("dip-shares", 1.0, shares=GROUP_SENSITIVITY)
    assert method.trained == "once"
    own = lesson(windows_of(TEXT))
    found, arrays = method.train(model, own)
    measured = arrays[group_sensitivity.KL]
    assert measured.shape == (2, 2, 4)
    with torch.no_grad():
        for layer, group in itertools.product(range(2), range(2)):
            row = tuple(0.4 if i == group else 1.0 for i in range(2))
            expected = distance_of(model, layer, row, own.windows)
            assert measured[layer, group, 2] == pytest.approx(expected, rel=0.02, abs=1e-6)
    assert found["rungs"] == [0.8, 0.6, 0.4, 0.2]
    assert np.allclose(found["kl"], measured)


def test_a_killed_measurement_goes_on(model: nn.Module) -> None:
    method = methods.create("dip-shares", 1.0, shares=GROUP_SENSITIVITY)
    whole = method.train(model, lesson(windows_of(TEXT)))[1]
    kept = Kept(fail_after=1)
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows_of(TEXT), checkpoint=kept))
    kept.fail_after = None
    assert same(method.train(model, lesson(windows_of(TEXT), checkpoint=kept))[1], whole)


@pytest.mark.parametrize("density", [0.1, 0.37, 0.5, 0.85, 1.0])
def test_one_measurement_serves_every_density(model: nn.Module, density: float) -> None:
    arrays = methods.create("dip-shares", 1.0, shares=GROUP_SENSITIVITY).train(
        model, lesson(windows_of(TEXT))
    )[1]
    method = methods.create("dip-shares", density, shares=GROUP_SENSITIVITY)
    with fitted(model, method, arrays) as ready:
        rows = [tuple(ready.at(layer).group_densities().values()) for layer in range(2)]
    assert np.mean([shares.density_of(GROUPS, row) for row in rows]) == pytest.approx(density)


def test_the_least_sensitive_give_up_first() -> None:
    kl = np.zeros((2, 2, 4))
    kl[0, 0] = [0.1, 0.2, 0.4, 0.9]  # the input of layer 0 matters, nothing else does
    row, other = group_sensitivity.table(GROUPS, 0.7, {group_sensitivity.KL: kl})
    assert row[0] == 1.0
    assert min(row[1], *other) < 0.7


def test_curves_are_powers_between_what_was_measured() -> None:
    ladder = (0.8, 0.6, 0.4, 0.2)
    kl = 0.3 * (1 - np.array(ladder)) ** 2.5
    losses, at = group_sensitivity.smooth(np.stack([kl, 2 * kl]), ladder)
    assert losses[0] == pytest.approx(0.3 * (1 - at) ** 2.5)
    assert losses[1] == pytest.approx(0.6 * (1 - at) ** 2.5)
    assert (at[0], at[-1]) == (1, 0)
    odd, at = group_sensitivity.smooth(np.array([0.0, -0.1, 0.2, 0.1]), (0.9, 0.65, 0.3, 0.2))
    assert {0.9, 0.65, 0.3, 0.2} <= set(at)
    assert (np.diff(odd) >= 0).all()


# -- Lagrange --------------------------------------------------------------------------------


def brute(costs: np.ndarray, losses: np.ndarray, most: float) -> float:
    """The least loss over all choices of an option for each item."""
    items, options = costs.shape
    best = np.inf
    for choice in itertools.product(range(options), repeat=items):
        at = (np.arange(items), np.array(choice))
        if costs[at].sum() <= most + 1e-9:
            best = min(best, losses[at].sum())
    return best


def test_no_choice_of_options_loses_less() -> None:
    random = np.random.default_rng(3)
    for _ in range(30):
        costs = np.sort(random.random((4, 4)), axis=1)[:, ::-1].copy()
        losses = np.sort(random.random((4, 4)), axis=1)
        losses -= losses[:, :1]
        most = float(random.uniform(costs[:, -1].sum(), costs[:, 0].sum()))
        kept = lagrange.kept_costs(costs, losses, most)
        assert kept.sum() == pytest.approx(most)
        hulls = [lagrange.steps_of(i, costs[i], losses[i]) for i in range(4)]
        lost = sum(_lost(costs[i, 0] - kept[i], hulls[i]) for i in range(4))
        assert lost <= brute(costs, losses, most) + 1e-9


def _lost(given: float, hull: list[lagrange.Step]) -> float:
    lost = 0.0
    for step in hull:
        part = min(step.cost, given)
        lost, given = lost + part * step.slope, given - part
    return lost


def test_a_loss_is_not_exceeded() -> None:
    costs = np.array([[1.0, 0.5, 0.0], [2.0, 1.0, 0.0]])
    losses = np.array([[0.0, 0.1, 0.3], [0.0, 0.1, 0.9]])
    kept = lagrange.kept_costs(costs, losses, most_loss=0.15)
    assert kept.tolist() == pytest.approx([0.75, 1.0])
    at = lagrange.at_cost(costs, np.array([[1.0, 0.5, 0.1]] * 2), kept)
    assert at.tolist() == pytest.approx([0.75, 0.5])


def test_what_costs_nothing_more_is_no_step() -> None:
    costs = np.array([3.0, 3.0, 2.0, 2.5, 1.0])
    losses = np.array([0.0, 0.2, 0.1, 0.1, 0.4])
    steps = lagrange.steps_of(0, costs, losses)
    assert sum(step.cost for step in steps) == pytest.approx(2.0)
    assert [step.slope for step in steps] == sorted(step.slope for step in steps)
