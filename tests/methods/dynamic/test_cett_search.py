"""One CETT for a rise of perplexity, against the definition worked out token by token."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods import cett_search, share_search
from methods.base import MethodError
from methods.mlp import gated_mlps
from methods.training import fitted
from sweep.inputs import models
from tests.methods.dynamic.test_cett import plain_cett, sizes
from tests.methods.lessons import lesson
from tests.methods.reference import PlainMLP, layers_of, replaced
from tests.sweep.tinysweep import planned, run, sweep_of

PERCENT = 0.5


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture(scope="module")
def windows(model: nn.Module) -> Any:
    """Tokens that the model itself finds likely, so that pruning costs it perplexity."""
    with torch.no_grad():
        rows = torch.arange(3, 11)[:, None]
        for _ in range(47):
            following = model(input_ids=rows).logits[:, -1]
            rows = torch.cat([rows, following.argmax(-1, keepdim=True)], 1)
    return rows.numpy()


@pytest.fixture(scope="module")
def found(model: nn.Module, windows: Any) -> tuple[dict[str, Any], Any]:
    return methods.create("cett", ppl_percent=PERCENT).train(model, lesson(windows))


def above(threshold: float) -> Any:
    return lambda mlp, x: [i for i, size in enumerate(sizes(mlp, x)) if size >= threshold]


def plain_perplexity(
    model: nn.Module, windows: Any, thresholds: list[float]
) -> tuple[float, float]:
    """Perplexity and the share of active neurons, a token and a neuron at a time."""
    active: list[float] = []

    def formula(layer: int, mlp: PlainMLP, x: Tensor) -> Tensor:
        units = above(thresholds[layer])(mlp, x)
        active.append(len(units) / mlp.sizes[1])
        return mlp.only(units, units).dense(x)

    losses: list[float] = []
    with torch.no_grad(), replaced(model, formula):
        for window in windows:
            logits = model(input_ids=torch.tensor(window)[None]).logits[0].double()
            nll = -logits.log_softmax(-1)
            losses += [float(nll[t, window[t + 1]]) for t in range(len(window) - 1)]
    return math.exp(np.mean(losses)), float(np.mean(active))


def test_the_activation_ratio_and_perplexity_are_those_of_the_definition(
    model: nn.Module, windows: Any, found: Any
) -> None:
    result, _ = found
    dense, everything = plain_perplexity(model, windows, [0.0, 0.0])
    ppl, ratio = plain_perplexity(model, windows, result["thresholds"])
    assert everything == 1
    assert result["ppl_dense"] == pytest.approx(dense, rel=1e-5)
    assert result["ppl"] == pytest.approx(ppl, rel=1e-5)
    assert result["activation_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert 0 < result["activation_ratio"] < 1
    assert result["ppl"] <= dense * (1 + PERCENT / 100) * (1 + 1e-9)


def test_each_threshold_is_the_largest_of_its_layer_at_that_cett(
    model: nn.Module, windows: Any, found: Any
) -> None:
    result, _ = found
    inputs = share_search.dense_inputs(model, gated_mlps(model), windows)
    for layer, threshold in enumerate(result["thresholds"]):
        mlp, x = PlainMLP.of(layers_of(model)[layer], "silu"), inputs[layer][0].double()
        every = torch.stack([sizes(mlp, token) for token in x]).flatten().sort().values
        step = float(every[int(0.99 * (len(every) - 1))]) / 65_536
        assert plain_cett(mlp, x, threshold) <= result["cett"] + 1e-6
        assert plain_cett(mlp, x, threshold + 1.01 * step) > result["cett"] - 1e-5


def test_a_little_more_cett_is_too_much(model: nn.Module, windows: Any, found: Any) -> None:
    result, _ = found
    more = methods.create("cett", cett=result["cett"] + 3e-5)
    beyond, _ = more.train(model, lesson(windows))
    assert result["ppl_rise_percent"] <= PERCENT + 1e-6
    assert beyond["ppl_rise_percent"] > PERCENT - 0.02
    assert beyond["activation_ratio"] <= result["activation_ratio"]


def test_a_larger_rise_leaves_fewer_neurons(model: nn.Module, windows: Any, found: Any) -> None:
    more, _ = methods.create("cett", ppl_percent=10).train(model, lesson(windows))
    assert more["cett"] > found[0]["cett"]
    assert more["activation_ratio"] < found[0]["activation_ratio"]


def test_a_fixed_cett_is_reached_in_each_layer(model: nn.Module, windows: Any) -> None:
    method = methods.create("cett", cett=0.2)
    result, arrays = method.train(model, lesson(windows))
    inputs = share_search.dense_inputs(model, gated_mlps(model), windows)
    for layer, threshold in enumerate(result["thresholds"]):
        mlp, x = PlainMLP.of(layers_of(model)[layer], "silu"), inputs[layer][0].double()
        assert plain_cett(mlp, x, threshold) == pytest.approx(0.2, abs=2e-3)
    with fitted(model, method, arrays) as ready:
        shares = [ready.at(view.layer).group_densities()["neuron"] for view in gated_mlps(model)]
    assert shares == arrays[cett_search.KEPT].tolist()
    assert all(0 < share < 1 for share in shares)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ppl_percent": 1, "cett": 0.2}, "two ways to say one thing"),
        ({"ppl_percent": -1}, "a number from 0 on"),
        ({"cett": 1.5}, "below 1"),
        ({"cett": 0.2, "shares": "greedy"}, "say what they are"),
        ({"cett": 0.2, "density": 0.5}, "out of reach"),
    ],
)
def test_bad_input_is_one_sentence(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodError, match=words):
        methods.create("cett", **parameters)


def test_it_is_asked_for_without_a_density_and_found_once(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
) -> None:
    entry = {"method": "cett", "ppl_percent": [1, 5]}
    sweep = sweep_of(
        tiny_llama, tmp_path, tiny_text, "dense", entry, {"method": "cett", "cett": 0.2}
    )
    plan = planned(sweep)
    assert [p.point.density for p in plan.points] == [1] * 4
    assert sum(task.kind == "train" for task in plan.tasks.values()) == 4  # and the curve
    _, table = run(sweep, tmp_path / "out")
    assert list(table["status"]) == ["done"] * 4
    assert all(density < 1 for density in table["mlp_density"].tolist()[1:])
    done, _ = run(sweep, tmp_path / "out")
    assert done.ran == 0
