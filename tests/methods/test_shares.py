"""Shares by group and layer: how they are written, what they add up to, and how they are found."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import methods
from methods import MethodError, contract, share_search, shares
from methods.apply import applied
from methods.density import kept_units
from methods.dynamic.teal import TEAL
from methods.mlp import gated_mlps
from methods.select import topk
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import Kept, lesson, same, windows_of
from tests.methods.reference import PlainMLP, layers_of

GROUPS = ("gate-input", "up-input", "intermediate")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


# -- as they are written ---------------------------------------------------------------------


def test_a_mapping_a_file_and_its_text_are_the_same(tmp_path: Path) -> None:
    own = {"gate-input": [0.5, 0.4], "up-input": 0.4, "intermediate": [0.6, 0.7]}
    path = tmp_path / "shares.json"
    path.write_text(json.dumps({"shares": own, "study": "mine"}))
    by_mapping = methods.create("teal", 0.5, shares=own)
    assert by_mapping == methods.create("teal", 0.5, shares=str(path))
    assert by_mapping.parameters()["shares"] == "0.5 0.4 0.6; 0.4 0.4 0.7"
    assert by_mapping == methods.create("teal", 0.5, shares="0.5 0.4 0.6; 0.4 0.4 0.7")
    assert not by_mapping.trained
    assert by_mapping.at(1).group_densities() == dict(zip(GROUPS, (0.4, 0.4, 0.7), strict=True))
    with pytest.raises(MethodError, match="shares of 2 layers are given; layer 2 has none"):
        by_mapping.at(2)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"gate-input": 0.5, "up-input": 0.5}, "groups gate-input, up-input, intermediate are"),
        (
            {"gate-input": 0.5, "up-input": 0.5, "intermediate": 0.6},
            "make the density 0.53333, but",
        ),
        ({"gate-input": 1.2, "up-input": 0.2, "intermediate": 0.1}, "between 0 and 1"),
        ({"gate-input": [0.5, 0.5], "up-input": [0.5] * 3, "intermediate": 0.5}, "or 3, one a"),
        ({"gate-input": "x", "up-input": 0.5, "intermediate": 0.5}, "numbers are expected"),
        ("gredy", r"unknown shares 'gredy' \(known: uniform, greedy, sensitivity,"),
        ("0.5 0.5", "one share for each of gate-input"),
        ("nowhere.json", "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said(given_: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        methods.create("teal", 0.5, shares=given_)


def test_calibrated_shares_are_asked_for_before_use(model: nn.Module) -> None:
    greedy = methods.create("teal", 0.5, shares="greedy")
    assert greedy.trained == "once"
    with (
        pytest.raises(MethodError, match="teal has no greedy shares yet"),
        applied(model, greedy),
    ):
        pass


@given(st.floats(0.01, 1))
def test_uniform_shares_make_the_density(density: float) -> None:
    for groups in (GROUPS, ("input", "intermediate"), ("neuron",)):
        row = shares.uniform(groups, density)
        assert shares.density_of(groups, row) == pytest.approx(density, abs=1e-9)


# -- as they are found -----------------------------------------------------------------------


def rotated_error(row: tuple[float, ...]) -> float:
    """A made-up error that a group of its own minds most."""
    return sum(weight * (1 - share) ** 2 for weight, share in zip((1, 4, 2), row, strict=True))


def test_the_path_takes_the_step_of_the_least_error_each_time() -> None:
    path = share_search.greedy(GROUPS, rotated_error)
    assert path[0] == [1, 1, 1]
    assert path[-1] == [0, 0, 0]
    assert len(path) == 61
    for row, after in itertools.pairwise(path):
        options = [
            [*row[:i], max(0.0, row[i] - 0.05), *row[i + 1 :]] for i in range(3) if row[i] > 0
        ]
        errors = [rotated_error(tuple(option)) for option in options]
        assert rotated_error(tuple(after)) == pytest.approx(min(errors), abs=1e-9)
    halfway = share_search.on_path(GROUPS, np.array(path), 0.5)
    assert halfway[0] < halfway[2] < halfway[1]


def test_a_step_takes_the_same_weights_of_large_groups_and_small_ones() -> None:
    path = share_search.greedy(("input", "intermediate"), lambda row: -row[0])
    taken = [a - b for (a, _), (b, _) in itertools.pairwise(path) if a != b]
    given_up = [a - b for (_, a), (_, b) in itertools.pairwise(path) if a != b]
    assert taken[0] == pytest.approx(0.0375)
    assert given_up[0] == pytest.approx(0.075)


@given(st.floats(0.001, 1))
def test_every_density_is_on_the_path(density: float) -> None:
    path = np.array(share_search.greedy(GROUPS, rotated_error))
    row = share_search.on_path(GROUPS, path, density)
    assert shares.density_of(GROUPS, row) == pytest.approx(density, abs=1e-9)
    assert all(0 <= share <= 1 for share in row)


@given(
    st.lists(st.lists(st.floats(-0.1, 5), min_size=4, max_size=4), min_size=1, max_size=12),
    st.floats(0.001, 1),
)
def test_layers_keep_the_mean(losses: list[list[float]], density: float) -> None:
    found = share_search.by_loss(GROUPS, np.array(losses), density)
    assert sum(found) / len(found) == pytest.approx(density, abs=1e-9)
    assert all(-1e-9 <= value <= 1 for value in found)


def test_layers_have_the_least_loss_that_any_split_has() -> None:
    """Against all splits of the rungs, for losses that are convex."""
    losses = np.array([[0.1, 0.3, 0.9, 2.0], [0.02, 0.05, 0.1, 0.5], [0.3, 0.9, 2.0, 4.0]])
    rungs = (1.0, *share_search.LADDER)
    cost = [dict(zip(rungs, [0.0, *layer], strict=True)) for layer in losses]
    for density in (0.8, 0.6, 0.4):
        found = share_search.by_loss(GROUPS, losses, density)
        best = min(
            sum(cost[i][share] for i, share in enumerate(split))
            for split in itertools.product(rungs, repeat=3)
            if abs(sum(split) / 3 - density) < 1e-9
        )
        grid = [np.interp(s, rungs[::-1], [*losses[i][::-1], 0.0]) for i, s in enumerate(found)]
        assert sum(grid) <= best + 1e-9


def test_noise_below_zero_costs_nothing_and_the_hull_never_falls() -> None:
    slopes = share_search._slopes(np.array([0.5, 0.4, 0.6, 3.0]), np.full(4, 0.2))
    assert (np.diff(slopes) >= 0).all()
    assert slopes[:4].sum() * 0.2 == pytest.approx(3.0)
    assert (share_search._slopes(np.array([-0.2, -0.1, 0, 0]), np.full(4, 0.2)) == 0).all()


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:8]


def plain_error(model: nn.Module, layer: int, x: Tensor, row: tuple[float, ...]) -> float:
    """TEAL's error of a layer, token by token, in float64."""
    mlp = PlainMLP.of(layers_of(model)[layer], "silu")
    total = 0.0
    for token in x.double():
        masks = []
        for share in row[:2]:
            threshold = token.abs().sort(descending=True).values[kept_units(share, 48) - 1]
            masks.append(token.abs() >= threshold)
        glu = mlp.act(mlp.gate @ (token * masks[0])) * (mlp.up @ (token * masks[1]))
        threshold = glu.abs().sort(descending=True).values[kept_units(row[2], 96) - 1]
        y = mlp.down @ (glu * (glu.abs() >= threshold))
        total += float(((y - mlp.dense(token)) ** 2).sum())
    return total**0.5


def test_the_error_is_that_of_the_output_of_the_layer(model: nn.Module, windows: Any) -> None:
    views = gated_mlps(model)
    inputs = share_search.dense_inputs(model, views, windows)
    assert inputs[1].shape == (1, 8 * 16, 48)  # the last quarter of 8 windows of 64
    error = share_search._error_of(TEAL(), views[1], inputs[1])
    for row in ((1, 1, 1), (0.4, 0.7, 0.9), (0.05, 1, 0.5)):
        expected = plain_error(model, 1, inputs[1][0], row)
        assert error(row) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in shares.CALIBRATED if name != shares.TPE])
def test_calibrated_shares_meet_the_density_within_one_unit(
    model: nn.Module, windows: Any, name: str
) -> None:
    method = methods.create("teal", 0.4, shares=name)
    result, arrays = method.train(model, lesson(windows))
    assert len(result["shares_by_layer"]) == 2
    asked: dict[tuple[int, str], Tensor] = {}

    def watch(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        mask = topk(layer, group, scores, share)
        asked[layer, group] = mask.sum(-1) / mask.shape[-1]
        return mask

    with torch.no_grad(), fitted(model, method, arrays) as ready, applied(model, ready, watch):
        model(input_ids=torch.from_numpy(windows[:1]))
    mean = torch.stack(
        list(asked.values())
    )  # [6, 1, tokens]; every group has a third of the weights
    assert (mean.mean(0) - 0.4).abs().max() < 1 / 48
    assert float(mean.std()) > 0.01


def test_greedy_shares_are_nearer_to_dense_than_uniform_ones(
    model: nn.Module, windows: Any
) -> None:
    method = methods.create("teal", 0.5, shares="greedy")
    arrays = method.train(model, lesson(windows))[1]
    views = gated_mlps(model)
    inputs = share_search.dense_inputs(model, views, windows)
    with fitted(model, method, arrays) as ready:
        for view in views:
            error = share_search._error_of(TEAL(), view, inputs[view.layer])
            found = tuple(ready.at(view.layer).group_densities().values())
            assert error(found) <= error((0.5, 0.5, 0.5))


@pytest.mark.parametrize("name", ["greedy", "sensitivity"])
def test_a_search_that_is_killed_goes_on_after_the_layers_that_are_done(
    model: nn.Module, windows: Any, name: str
) -> None:
    method, kept = methods.create("teal", 0.5, shares=name), Kept(fail_after=1)
    whole = method.train(model, lesson(windows))[1]
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows, checkpoint=kept))
    kept.fail_after, said = None, []
    resumed = method.train(model, lesson(windows, checkpoint=kept, log=said.append))[1]
    assert next(text for text in said if text.startswith("layer")).startswith("layer 1")
    assert same(whole, resumed)


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", ["greedy", "sensitivity+greedy"])
def test_a_method_with_calibrated_shares_keeps_every_rule(name: str, rule: contract.Rule) -> None:
    rule(contract.subject_of("teal", shares=name))
