"""Densities of layers by trials: what holds for each of them, and what is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import methods
from methods import MethodError, block_search, share_search, shares
from methods.training import fitted
from sweep.inputs import models
from sweep.tasks.train_by_trials import TPEStudy
from tests.methods.lessons import Kept, lesson, same, windows_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:8]


def trial_lesson(windows: Any, **values: Any) -> block_search.TrialLesson:
    quiet = {"seed": 3, "log": lambda text: None, "make_study": TPEStudy}
    return block_search.TrialLesson(windows, **{**quiet, **values})


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(0.001, 0.05)
)
def test_layers_rise_within_the_width_around_the_mean(
    steps: list[float], spread: float, width: float
) -> None:
    asked = {f"step_{i + 1}": step for i, step in enumerate(steps)} | {"spread": spread}
    found = np.array(block_search.sparsities(asked, len(steps) + 1, width))
    assert len(found) == len(steps) + 1
    assert abs(found.mean()) < 1e-12
    assert (np.diff(found) >= -1e-15).all()
    assert np.abs(found).max() <= width + 1e-12


def test_the_whole_way_is_gone_where_steps_are_alike() -> None:
    asked = {"spread": 1.0, "step_1": 0.5, "step_2": 0.5}
    assert block_search.sparsities(asked, 3, 0.05) == pytest.approx([-0.05, 0, 0.05])
    assert block_search.sparsities({"spread": 1.0}, 1, 0.05) == [0.0]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("teal", {}), ("was", {"attention": "same"}), ("wina", {"attention": 0.4})],
)
def test_what_is_found_keeps_its_conditions_and_is_no_worse_than_equal_layers(
    model: nn.Module, windows: Any, name: str, parameters: dict[str, Any]
) -> None:
    method = methods.create(name, 0.4, shares="tpe", trials=6, **parameters)
    assert method.trained == "each density"
    summary, arrays = method.train(model, trial_lesson(windows))
    assert summary["trials"] == 6
    assert summary["loss"] <= summary["loss_of_equal_layers"]
    groups = method.groups[-3:]
    by_layer = [shares.density_of(groups, row) for row in summary["shares_by_layer"]]
    assert np.mean(by_layer) == pytest.approx(0.4, abs=1e-9)
    assert by_layer[0] >= by_layer[1]
    assert max(abs(density - 0.4) for density in by_layer) <= 0.05 + 1e-9
    device_method = method.with_state(arrays, "cpu")
    found = share_search.mean_loss(model, device_method, windows)
    greedy = methods.create(name, 0.4, shares="greedy", **parameters)
    equal = share_search.mean_loss(model, greedy.with_state(arrays_of(arrays), "cpu"), windows)
    assert found == pytest.approx(summary["loss"], abs=1e-12)
    assert equal == pytest.approx(summary["loss_of_equal_layers"], abs=1e-12)


def arrays_of(found: dict[str, Any]) -> dict[str, Any]:
    """What `greedy` alone finds."""
    return {name: array for name, array in found.items() if name != share_search.BLOCKS}


def test_attention_differs_as_its_layer_does(model: nn.Module, windows: Any) -> None:
    method = methods.create("was", 0.4, shares="tpe", trials=1, attention=0.6)
    arrays = dict(method.train(model, trial_lesson(windows))[1])
    arrays[share_search.BLOCKS] = np.array([0.03, -0.03])
    parts = arrays["attention.parts"]
    with fitted(model, method, arrays) as ready:
        for layer, more in enumerate((0.03, -0.03)):
            of = ready.at(layer).group_densities()
            assert np.mean(list(of.values())[2:]) == pytest.approx(0.4 + more)
            assert np.array(list(of.values())[:2]) @ parts == pytest.approx(0.6 + more)


def test_two_searches_are_equal_and_another_seed_is_another(model: nn.Module, windows: Any) -> None:
    method = methods.create("was", 0.3, shares="tpe", trials=6)
    tried: dict[int, list[str]] = {}
    for run, seed in enumerate((3, 3, 4)):
        said = tried.setdefault(run, [])
        method.train(model, trial_lesson(windows, seed=seed, log=said.append))
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]
    first, second = (method.train(model, trial_lesson(windows))[1] for _ in range(2))
    assert same(dict(first), dict(second))


def test_a_search_that_is_killed_goes_on_with_the_trial_it_was_at(
    model: nn.Module, windows: Any
) -> None:
    method, kept = methods.create("teal", 0.5, shares="tpe", trials=6), Kept(fail_after=7)
    whole = method.train(model, trial_lesson(windows))[1]
    with pytest.raises(KeyboardInterrupt):
        method.train(model, trial_lesson(windows, checkpoint=kept))
    kept.fail_after, said = None, []
    resumed = method.train(model, trial_lesson(windows, checkpoint=kept, log=said.append))[1]
    assert said[0].startswith("trial 4:")  # saved: two layers, the path, four trials
    assert same(dict(whole), dict(resumed))


def test_where_there_is_no_room_all_layers_have_the_density(model: nn.Module, windows: Any) -> None:
    summary, arrays = methods.create("teal", 1.0, shares="tpe").train(model, trial_lesson(windows))
    assert summary["trials"] == 1
    assert arrays[share_search.BLOCKS].tolist() == [0, 0]


def test_a_training_without_a_study_says_so(model: nn.Module, windows: Any) -> None:
    with pytest.raises(MethodError, match="tpe are found by trials, for which this training has"):
        methods.create("was", 0.5, shares="tpe").train(model, lesson(windows))
    with pytest.raises(MethodError, match="trials 0 of was: a whole number is expected"):
        methods.create("was", 0.5, shares="tpe", trials=0)
