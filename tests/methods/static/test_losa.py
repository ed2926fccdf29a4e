"""LoSA: what it allots by its equations, adapters under the mask, what they are good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn

import methods
from methods.base import MethodError
from methods.static import losa_rounds
from methods.static.allotted import delta, importances, layer_sparsities, ranks
from methods.static.losa import LoSA
from sweep.inputs import models
from tests.methods.lessons import Kept, divergence, lesson, logits, same, windows_of

SMALL: dict[str, Any] = {"steps": 2, "rounds": 2, "rank": 2, "calibration_windows": 4}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> NDArray[np.int64]:
    return windows_of(tiny_text)[:40]


def create(density: float, **parameters: Any) -> LoSA:
    method = methods.create("losa", density, **parameters)
    assert isinstance(method, LoSA)
    return method


# -- what layers are allotted ------------------------------------------------------------------


def test_sparsity_rises_as_a_cube_and_ends_where_it_is_asked_for() -> None:
    method = create(0.3, rounds=5)
    plain = [0.7 - 0.7 * (1 - t / 5) ** 3 for t in range(1, 6)]
    assert [method.sparsity(t) for t in range(1, 6)] == pytest.approx(plain)
    assert method.sparsity(5) == 0.7
    assert [method.steps_of(t) for t in range(1, 6)] == [20, 20, 20, 20, 120]


@pytest.mark.parametrize("layers", [1, 2, 5, 30])
@pytest.mark.parametrize("mean", [0.005, 0.4, 0.55, 0.65, 0.995])
def test_layer_sparsities_solve_the_linear_programme(layers: int, mean: float) -> None:
    importance = np.random.default_rng(layers).uniform(0.5, 1, layers)
    made, bound = layer_sparsities(importance, mean), delta(mean)
    solved = linprog(
        importance,
        A_eq=np.full((1, layers), 1 / layers),
        b_eq=[mean],
        bounds=[(mean - bound, mean + bound)] * layers,
    )
    assert importance @ made == pytest.approx(solved.fun, abs=1e-9)
    assert made == pytest.approx(solved.x.tolist(), abs=1e-9)
    assert np.mean(made) == pytest.approx(mean)
    assert min(made) >= 0
    assert max(made) <= 1


def test_importance_and_cka_are_those_of_the_plain_equations() -> None:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(6, 12)) + layer for layer in range(4)]
    features[3] = features[0] * 2 + 0.01 * rng.normal(size=(6, 12))
    plain = np.array([[plain_cka(x, y) for y in features] for x in features])
    states = [[torch.from_numpy(row).reshape(1, 3, 4) for row in x] for x in features]
    made = losa_rounds.cka([losa_rounds.gram(s) for s in states])
    assert made == pytest.approx(plain, abs=1e-5)
    others = [sum(plain[i][j] for j in range(4) if j != i) for i in range(4)]
    expected = [np.exp(-x / sum(others)) for x in others]
    assert importances(made).tolist() == pytest.approx(expected, rel=1e-5)
    assert np.argmin(expected) in (0, 3)  # what another layer has too counts for less


def plain_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Linear CKA by columns less their means."""
    x, y = x - x.mean(0), y - y.mean(0)
    shared = np.linalg.norm(y.T @ x) ** 2
    return float(shared / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@pytest.mark.parametrize(
    ("errors", "mean", "expected"),
    [
        ([1, 1, 1, 1], 6, [6, 6, 6, 6]),
        ([1, 2, 3], 6, [3, 6, 9]),
        ([0, 0, 1], 6, [1, 1, 16]),
        ([100, 1, 1, 1], 3, [9, 1, 1, 1]),
        ([1, 1.2, 1.1], 10, [9, 11, 10]),
        ([0, 0], 4, [4, 4]),
        ([1, 3], 20, [16, 16]),
    ],
)
def test_ranks_follow_errors_with_their_mean(
    errors: list[float], mean: int, expected: list[int]
) -> None:
    assert ranks(errors, mean) == expected


def test_released_ranks_are_cut_at_the_adapters_rank() -> None:
    assert create(0.5, rank=6).ranks([0, 0, 1], 1) == [1, 1, 16]
    assert create(0.5, rank=6, variant="code").ranks([0, 0, 1], 1) == [1, 1, 8]
    assert create(0.5, rank=6).ranks([1, 1], 3) == [8, 8]


# -- pruning and adapters ----------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3", "tiny_bias"])
def test_adapters_run_as_they_are_merged(
    folder: str, variant: str, windows: NDArray[np.int64], request: pytest.FixtureRequest
) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method, kept = create(0.4, variant=variant, **SMALL), Kept()
    found, arrays = method.train(model, lesson(windows[:10], checkpoint=kept))
    state = losa_rounds.State.of(kept.saved[-1], torch.device("cpu"))
    with losa_rounds.adapted(model, state.adapters):
        running = logits(model, windows[-2:])
    assert torch.allclose(running, logits(model, windows[-2:], method, arrays), atol=1e-4)
    zeros = sum(int((array == 0).sum()) for array in arrays.values())
    weights = sum(array.size for array in arrays.values())
    assert found["mlp_density"] == pytest.approx(1 - zeros / weights, abs=1e-4)
    assert found["mlp_density"] == pytest.approx(0.4, abs=0.02)
    assert all((array == 0).any() for array in arrays.values())
    moved = [torch.from_numpy(a) != model.get_parameter(n) for n, a in arrays.items()]
    assert any(
        bool((there & (torch.from_numpy(a) != 0)).any())
        for there, a in zip(moved, arrays.values(), strict=True)
    )


def test_the_first_round_prunes_as_wanda_at_each_layers_sparsity(
    model: nn.Module, windows: NDArray[np.int64]
) -> None:
    """One round without a step: masks of Wanda, layer by layer, at s - delta and s + delta."""
    method = create(0.4, **{**SMALL, "rounds": 1, "learning_rate": 0.0})
    _, arrays = method.train(model, lesson(windows[:10]))
    kept = {n: int((a != 0).sum(1).max()) for n, a in arrays.items()}
    spread = {kept["model.layers.0.mlp.up_proj.weight"], kept["model.layers.1.mlp.up_proj.weight"]}
    assert spread == {int(0.38 * 48), int(0.42 * 48)}
    seen: list[Tensor] = []
    name = "model.layers.0.mlp.up_proj"
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].double())
    )
    logits(model, windows[:4])
    hook.remove()
    norms = seen[0].flatten(0, 1).square().sum(0).sqrt()
    scores = model.get_parameter(f"{name}.weight").abs() * norms
    for row, weights in zip(scores, arrays[f"{name}.weight"], strict=True):
        best = set(row.topk(kept[f"{name}.weight"]).indices.tolist())
        assert set(np.flatnonzero(weights).tolist()) == best


def test_code_goes_on_with_its_adapters_and_paper_begins_anew(
    model: nn.Module, windows: NDArray[np.int64]
) -> None:
    """What released code hands from round to round: W + BA, masked again, less BA under it."""
    rng, mask = np.random.default_rng(0), torch.rand(6, 8) > 0.4
    first = losa_rounds._continued(None, torch.randn(6, 8), mask, 3, rng)
    assert (first.a.shape, first.b.shape, first.rank) == ((8, 8), (6, 8), 3)
    first.b.data.normal_()
    merged, smaller = first.merged().detach(), mask & (torch.rand(6, 8) > 0.3)
    with torch.no_grad():
        second = losa_rounds._continued(first, merged, smaller, 3, rng)
        assert torch.allclose(second.merged(), merged * smaller, atol=1e-6)
        wider = losa_rounds._continued(first, merged, smaller, 5, rng)
        assert not torch.allclose(wider.merged(), merged * smaller, atol=1e-2)
        anew = losa_rounds._anew(first, merged, smaller, 5, rng)
    assert torch.equal(anew.merged(), merged * smaller)
    assert anew.a.shape == (5, 8)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    model: nn.Module, windows: NDArray[np.int64]
) -> None:
    method = create(0.4, **{**SMALL, "rounds": 3})
    whole = method.train(model, lesson(windows[:10]))
    kept = Kept(fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows[:10], checkpoint=kept))
    kept.fail_after = None
    found, arrays = method.train(model, lesson(windows[:10], checkpoint=kept))
    assert same(arrays, whole[1])
    assert found == whole[0]
    assert len(kept.saved) == 3


# -- what it is good for -----------------------------------------------------------------------


@pytest.mark.parametrize(("density", "variant"), [(0.3, "paper"), (0.4, "code")])
def test_it_is_nearer_than_adapters_masked_later_and_these_than_wanda(
    model: nn.Module, windows: NDArray[np.int64], density: float, variant: str
) -> None:
    """At equal steps: LoSA < Wanda + LoRA, merged and masked again < Wanda."""
    learn, told = windows[:-6], windows[-6:]
    dense = logits(model, told)
    own = {"calibration_windows": 8, "learning_rate": 5e-3, "variant": variant}
    losa = create(density, steps=6, **own)
    after_losa = divergence(dense, logits(model, told, losa, losa.train(model, lesson(learn))[1]))
    once = create(density, rounds=1, steps=10, **own)
    arrays, plain = once.train(model, lesson(learn))[1], {}
    masks = {name: torch.from_numpy(array) != 0 for name, array in arrays.items()}
    wanda = {n: model.get_parameter(n) * mask for n, mask in masks.items()}
    after_wanda = divergence(
        dense, logits(model, told, once, {n: w.detach().numpy() for n, w in wanda.items()})
    )
    lora = unmasked(model, masks, learn, once)
    plain = {n: (w * masks[n]).numpy() for n, w in lora.items()}
    after_lora = divergence(dense, logits(model, told, once, plain))
    assert after_losa < after_lora < after_wanda


def unmasked(
    model: nn.Module, masks: dict[str, Tensor], learn: NDArray[np.int64], method: LoSA
) -> dict[str, Tensor]:
    """Adapters that learn on Wanda's weights without a mask: W * M + 2 BA."""
    rng, adapters = np.random.default_rng(3), {}
    for name, mask in masks.items():
        pruned = model.get_parameter(name).detach() * mask
        adapters[name] = losa_rounds._fresh(pruned, torch.ones_like(mask), 8, 8, rng)
    state = losa_rounds.State(adapters, 0, 0, [])
    losa_rounds._learn(method, model, state, learn[: -len(learn) // 10], 1)
    return {name: one.merged().detach() for name, one in adapters.items()}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"variant": "both"}, "variant 'both' of losa: paper or code"),
        ({"rounds": 0}, "rounds 0 of losa: a whole number above 0"),
        ({"rank": 2.5}, "rank 2.5 of losa: a whole number above 0"),
        ({"learning_rate": -1}, "learning_rate -1 of losa: a number of at least 0"),
        ({"pattern": "2:4"}, "no parameter 'pattern'"),
    ],
)
def test_what_there_is_not_is_refused(own: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        methods.create("losa", 0.5, **own)
