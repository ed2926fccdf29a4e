"""Recovery by forward passes: each step is its equation, and the loss of the calibration falls."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import methods
from methods import MethodError
from methods.apply import applied, weights_replaced
from methods.base import Method
from methods.zeroth_order import Directions
from sweep.inputs import models
from tests.methods.lessons import Kept, lesson, same, windows_of
from tests.sweep.tinysweep import planned, run, sweep_of

SMALL: dict[str, Any] = {"rank": 4, "steps": 6, "epsilon": 1e-2, "keep": 2, "learning_rate": 1e-3}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tiny_llama: Path) -> nn.Module:
    return models.load(str(tiny_llama), "float32")


@pytest.fixture
def windows(tiny_text: str) -> NDArray[np.int64]:
    return windows_of(tiny_text, 32)[:6]


def plain_loss(model: nn.Module, method: Method, window: Any, weights: dict[str, Tensor]) -> float:
    """KL(dense || sparse on these weights), a token at a time, in float64."""
    ids = torch.tensor(window)[None]
    dense = model(input_ids=ids).logits[0].double().log_softmax(-1)
    with weights_replaced(model, weights), applied(model, method):
        sparse = model(input_ids=ids).logits[0].double().log_softmax(-1)
    kl = [float((p.exp() * (p - q)).sum()) for p, q in zip(dense, sparse, strict=True)]
    return sum(kl) / len(kl)


def summed(model: nn.Module, theta: dict[str, Tensor]) -> dict[str, Tensor]:
    """W + BA, and norms as they are."""
    own = dict(model.named_parameters())
    names = {name.removesuffix(".A") for name in theta if name.endswith(".A")}
    norms = {n: t for n, t in theta.items() if n[-2:] not in (".A", ".B")}
    return {n: own[n] + theta[f"{n}.B"] @ theta[f"{n}.A"] for n in names} | norms


def directions_of(method: Any, theta: dict[str, Tensor], seed: int) -> Directions:
    shapes = {name: tuple(tensor.shape) for name, tensor in theta.items()}
    code = method.variant == "code"
    return Directions(shapes, method.perturbation, method.keep, code, seed)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"perturbation": "full"},
        {"variant": "code"},
        {"momentum": 0.8},
        {"tunes": "adapters+norms", "perturbation": 1},
    ],
    ids=str,
)
@torch.no_grad()
def test_steps_are_their_equation(model: nn.Module, windows: Any, more: dict[str, Any]) -> None:
    method: Any = methods.create("dip+lozo", 0.5, **{**SMALL, "steps": 3}, **more)
    saved = Kept()
    method.train(model, lesson(windows[:2], checkpoint=saved))
    first, last = saved.saved[0], saved.saved[-1]
    theta = {n[4:]: torch.from_numpy(a) for n, a in first.items() if n.startswith("now ")}
    ours = {n[4:]: torch.from_numpy(a) for n, a in last.items() if n.startswith("now ")}
    drawn, rank, moments = directions_of(method, theta, 3), method.perturbation, {}
    scale = rank if method.variant == "paper" and rank != "full" else 1
    for step in range(3):
        where = {
            sign: {n: theta[n] + sign * 1e-2 * d.dense() for n, d in drawn.of(step)}
            for sign in (1, -1)
        }
        losses = {
            s: plain_loss(model, method, windows[0], summed(model, t)) for s, t in where.items()
        }
        slope = (losses[1] - losses[-1]) / 2e-2
        before: dict[str, Any] = dict(drawn.of(step - 1)) if step else {}
        direction: Any
        for name, direction in drawn.of(step, updating=True):
            vector = direction.v is None
            change = slope * direction.u / (1 if vector else scale)
            if method.momentum:
                kept = moments.get(name, torch.zeros_like(change))
                if step and step % 2 == 0 and not vector:
                    kept = kept @ before[name].v.T @ direction.v / len(direction.v)
                change = moments[name] = 0.8 * kept + 0.2 * change
            moved = change if vector else change @ direction.v.T
            theta[name] = theta[name] - method.learning_rate * moved
    assert set(theta) == set(ours)
    for name, tensor in theta.items():
        start = torch.from_numpy(first[f"now {name}"])
        torch.testing.assert_close(ours[name] - start, tensor - start, rtol=2e-2, atol=2e-6)


def test_directions_are_low_rank_fresh_and_kept() -> None:
    shapes = {"a": (7, 5), "b": (4,)}
    drawn = Directions(shapes, 2, 3, False, 0)
    steps: list[dict[str, Any]] = [dict(drawn.of(step)) for step in range(4)]
    assert all(torch.linalg.matrix_rank(d["a"].dense()) == 2 for d in steps)
    assert torch.equal(steps[0]["a"].v, steps[2]["a"].v)
    assert not torch.equal(steps[2]["a"].v, steps[3]["a"].v)
    assert len({float(d["a"].u[0, 0]) for d in steps}) == 4
    assert all(d["b"].v is None for d in steps)
    full = dict(Directions(shapes, "full", 3, False, 0).of(0))["a"]
    assert full.v is None
    assert torch.linalg.matrix_rank(full.u) == 5


def test_the_released_code_slips_where_it_draws_anew() -> None:
    drawn = Directions({"a": (7, 5)}, 2, 3, True, 0)
    for step in range(6):
        moved: Any
        updated: Any
        moved, updated = (dict(drawn.of(step, updating=u))["a"] for u in (False, True))
        assert torch.equal(moved.v, updated.v)
        assert torch.equal(moved.u, updated.u) == (step % 3 != 0)


def test_it_has_the_gradient_in_the_mean() -> None:
    """c D / s of a linear loss <G, theta>, over many draws of U and V."""
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    drawn = Directions({"a": (6, 4)}, 2, 1, False, 0)
    every = torch.stack([next(iter(drawn.of(step)))[1].dense() for step in range(6000)])
    slopes = (every * gradient).sum((1, 2))
    mean = (slopes[:, None, None] * every / 2).mean(0)
    assert float((mean - gradient).norm() / gradient.norm()) < 0.15


@pytest.mark.parametrize("more", [{}, {"momentum": 0.5}, {"tunes": "norms"}], ids=str)
def test_it_is_deterministic_goes_on_and_leaves_the_model(
    model: nn.Module, windows: Any, more: dict[str, Any]
) -> None:
    before = {name: p.clone() for name, p in model.named_parameters()}
    method = methods.create("dip+lozo", 0.5, **SMALL, **more)
    result, arrays = method.train(model, lesson(windows))
    killed = Kept(fail_after=4)
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows, checkpoint=killed))
    resumed, again = method.train(model, lesson(windows, checkpoint=Kept2(killed)))
    assert same(arrays, again)
    assert resumed["validation_loss"] == result["validation_loss"]
    now = dict(model.named_parameters())
    assert set(now) == set(before)
    assert all(torch.equal(now[name], value) for name, value in before.items())


class Kept2(Kept):
    """A checkpoint that begins with what another has saved."""

    def __init__(self, other: Kept) -> None:
        super().__init__()
        self.saved = list(other.saved)


def test_no_activations_are_kept(model: nn.Module, windows: Any) -> None:
    seen: list[bool] = []
    hook = model.register_forward_hook(lambda _m, _a, out: seen.append(out.logits.requires_grad))
    method = methods.create("dip+lozo", 0.5, **{**SMALL, "steps": 2})
    method.train(model, lesson(windows[:2]))
    hook.remove()
    assert len(seen) == 2 * 3 + 3 * 2  # two passes and the teacher's a step, and three validations
    assert not any(seen)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"perturbation": 0}, "a whole number above 0, or full"),
        ({"perturbation": "half"}, "or full"),
        ({"variant": "papr"}, "known: paper, code"),
        ({"tunes": "all"}, "known: adapters, norms"),
        ({"keep": 0}, "1 at least"),
        ({"momentum": 1}, "below 1"),
        ({"epsilon": 0}, "above 0"),
    ],
)
def test_bad_input_is_one_sentence(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodError, match=words):
        methods.create("dip+lozo", 0.5, **parameters)


def test_norms_in_bfloat16_are_refused(tiny_llama: Path, windows: Any) -> None:
    model = models.load(str(tiny_llama), "bfloat16")
    with pytest.raises(ValueError, match="needs dtype: float32"):
        methods.create("dip+lozo", 0.5, tunes="norms", steps=1).train(model, lesson(windows))


def test_a_sweep_tunes_by_key(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> None:
    entry = {"method": "dip+lozo", "density": 0.5, **SMALL}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", entry)
    assert sum(task.kind == "train" for task in planned(sweep).tasks.values()) == 1
    _, table = run(sweep, tmp_path / "out")
    assert list(table["status"]) == ["done"] * 2
    assert math.isfinite(table["ppl"].tolist()[1])
    done, _ = run(sweep, tmp_path / "out")
    assert done.ran == 0


@pytest.mark.parametrize(("tunes", "rate"), [("norms", 1e-2), ("adapters", 3e-3)])
def test_the_loss_of_the_calibration_falls(
    model: nn.Module, windows: Any, tunes: str, rate: float
) -> None:
    more = {"tunes": tunes, "learning_rate": rate, "epsilon": 1e-2}
    result, _ = methods.create("dip+lozo", 0.5, steps=100, **more).train(model, lesson(windows[:2]))
    losses = [loss for _, loss in result["calibration_loss"]]
    assert losses[-1] < 0.9 * losses[0]
