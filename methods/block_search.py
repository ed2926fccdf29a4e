"""Densities of layers by trials: WAS's search (EMNLP 2025), of which TEAL's is the inner half.

Layers are sparser the later they come, s_i >= s_{i-1}, and none is further than `WIDTH` from the
sparsity asked for. A study proposes; a trial is the loss of the whole model on calibration text,
with groups inside each layer by their error (`share_search.greedy`). Decided here, where the source
leaves it open: what is asked for is how far apart the first and the last layer are, and how much of
that lies between each layer and the next, so that every trial keeps both conditions and the mean;
the first trial gives all layers the same, so that what is found is no worse than that; masks are
top-k for each token; attention, where it is pruned, has the differences of its layer's MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from methods import share_search, shares
from methods.apply import weights_replaced
from methods.base import MethodError
from methods.share_search import BLOCKS, TOKENS, count, mean_loss
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.shared import Shared

WIDTH = 0.05
"""How far the sparsity of a layer may be from that asked for."""

SPREAD = "spread"
LEAST_STEP = 0.01
"""The smallest part of the way from the first layer to the last, beside a largest of 1."""

_LOSSES = "shares.trials"

Span = tuple[float, float, bool]
"""Lowest and highest value of a parameter, and whether each ratio has equal weight."""


class Study(Protocol):
    """Proposes parameters and is told how well they did; the same for the same figures told."""

    def ask(self) -> dict[str, float]:
        """What to try next."""
        ...

    def tell(self, loss: float) -> None:
        """What came of what was asked last; less is better."""
        ...


MakeStudy = Callable[[Mapping[str, Span], Mapping[str, float], int], Study]
"""make(spans by name, the first to be asked, seed)."""


@dataclass(frozen=True, slots=True)
class TrialLesson(Lesson):
    """A lesson with a study for methods that are trained by trials."""

    make_study: MakeStudy | None = None


def train(
    model: nn.Module, method: Shared, lesson: Lesson
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `greedy` finds, and `shares.blocks` [layers], what is added to the density of each.

    Raises MethodError for a lesson without a study.
    """
    if not isinstance(lesson, TrialLesson) or lesson.make_study is None:
        raise MethodError("shares: tpe are found by trials, for which this training has no study")
    summary, found = replace(method, shares="greedy").train(model, lesson)
    kept: Arrays = dict(found)
    layers = len(kept["shares.path"])
    study = lesson.make_study(_spans(layers), _first(layers), lesson.seed)
    width = _width(method)
    tried: list[tuple[float, list[float]]] = []
    told = (lesson.checkpoint.load() or {}).get(_LOSSES, np.zeros(0)).tolist()
    with weights_replaced(model, method.weights(model, kept)):
        for trial in range(method.trials if width > 0 else 1):
            more = [-s for s in sparsities(study.ask(), layers, width)]
            if trial == len(told):
                told.append(_loss(model, method, lesson, kept | {BLOCKS: np.array(more)}))
                lesson.checkpoint.save(kept | {_LOSSES: np.array(told)})
                lesson.log(f"trial {trial}: loss {told[trial]:.5f}, best {min(told):.5f}")
            study.tell(told[trial])
            tried.append((told[trial], more))
    best = min(range(len(tried)), key=lambda trial: tried[trial][0])
    kept[BLOCKS] = np.array(tried[best][1])
    return summary | _summary(method, kept, best, tried), kept


def sparsities(asked: Mapping[str, float], layers: int, width: float) -> list[float]:
    """How much sparser each layer is than the mean: rising, within `width`, of sum 0."""
    steps = [0.0, *(asked[name] for name in _step_names(layers))]
    way = np.cumsum(steps) / max(sum(steps), 1e-12) * asked[SPREAD] * 2 * width
    way -= way.mean()
    furthest = float(np.abs(way).max())
    return (way * min(1.0, width / furthest) if furthest > 0 else way).tolist()


def _spans(layers: int) -> dict[str, Span]:
    steps = dict.fromkeys(_step_names(layers), (LEAST_STEP, 1.0, True))
    return {SPREAD: (0.0, 1.0, False), **steps}


def _first(layers: int) -> dict[str, float]:
    """All layers alike."""
    return {SPREAD: 0.0, **dict.fromkeys(_step_names(layers), 1.0)}


def _step_names(layers: int) -> list[str]:
    return [f"step_{layer}" for layer in range(1, layers)]


def _width(method: Shared) -> float:
    """`WIDTH`, or less where a layer would keep more than all or less than the method can."""
    low, high = type(method).reach(method.parameters())
    room = [WIDTH, high - method.density, method.density - low]
    attention: float = getattr(method, "attention_share", lambda: 1.0)()
    if attention < 1:
        room += [1 - attention, attention]
    return max(0.0, min(room))


def _loss(model: nn.Module, method: Shared, lesson: Lesson, arrays: Arrays) -> float:
    device = str(next(model.parameters()).device)
    windows = lesson.windows[: count(lesson.windows, TOKENS)]
    return mean_loss(model, method.with_state(arrays, device), windows)


def _summary(
    method: Shared, arrays: Arrays, best: int, tried: Sequence[tuple[float, list[float]]]
) -> dict[str, Any]:
    groups = method.mlp_groups
    rows = np.array(share_search.table(shares.TPE, groups, method.density, arrays))
    means = dict(zip(groups, rows.mean(axis=0).tolist(), strict=True))
    losses = {"loss": tried[best][0], "loss_of_equal_layers": tried[0][0], "best_trial": best}
    found = {"shares_density": method.density, "shares": means, "shares_by_layer": rows.tolist()}
    return found | losses | {"trials": len(tried)}
