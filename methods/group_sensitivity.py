"""Shares of each group in each layer by what it alone does to the model's predictions.

`group-sensitivity` prunes one group of one layer at a time, to each share of `LADDER`, with all
else dense, and measures the mean KL from what the dense model expects of the next token to what
the pruned one does. At a density, groups of all layers then give up weights in the order of what
that costs (`methods.lagrange`), as if these distances added up.

Decided here: masks are top-k for each token; between rungs and beyond them the distance is a power
of what is left out. The distance is measured in place of the loss because it is
steadier: on SmolLM2 one unit more in a cache moves the loss of a window of 512 tokens by 0.02 nats,
which is more than most groups do, and the distance by a fifth of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import lagrange, shares
from methods.apply import applied
from methods.density import ATTENTION, MLP_SHARE
from methods.dynamic.dense import Dense
from methods.mlp import gated_mlps
from methods.share_search import add_by_layer, count, run
from methods.shared import Shared
from methods.training import Arrays, Lesson

LADDER = (0.8, 0.6, 0.4, 0.2)

TOKENS = 1024
"""Of these tokens the distance is measured, once for each group, layer and share."""

STEPS = 50
"""Shares at which a curve is read, evenly from 1 to 0."""
_NOTHING = 1e-9

KL = "shares.kl"
"""Array [layers, groups, rungs] of the distances."""


def measure(model: nn.Module, method: Shared, lesson: Lesson) -> Arrays:
    """`KL` of a method on the calibration text."""
    windows = lesson.windows[: count(lesson.windows, TOKENS)]
    expected = [_expected(model, window) for window in windows]
    kept: Arrays = {}

    def distances(layer: int) -> NDArray[Any]:
        rows = _alone(len(method.mlp_groups))
        grown = np.array(
            [[_distance(model, _Alone.of(method, layer, row), windows, expected) for row in group]
             for group in rows]
        )  # fmt: skip
        for group, of_group in zip(method.mlp_groups, grown, strict=True):
            figures = ", ".join(f"{kl:.5f}" for kl in of_group)
            lesson.log(f"{group} of layer {layer} alone, shares {LADDER}: KL {figures}")
        return grown

    add_by_layer(KL, range(len(gated_mlps(model))), lesson, kept, distances)
    return kept


def table(
    groups: Sequence[str], density: float, arrays: Mapping[str, NDArray[Any]]
) -> shares.Table:
    """Shares by layer at a density, for which the added distances are least."""
    losses, ladder = smooth(np.asarray(arrays[KL], np.float64), LADDER)
    layers, columns, options = losses.shape
    losses = losses.reshape(layers * columns, options)
    weights = np.tile([MLP_SHARE[group] for group in groups], layers) / layers
    costs = weights[:, None] * ladder
    pruned = float(weights.sum())
    kept = lagrange.kept_costs(costs, losses, max(0.0, density - (1 - pruned)))
    rows = np.clip(kept / weights, 0.0, 1.0).reshape(layers, columns)
    return tuple(tuple(map(float, row)) for row in rows)


def smooth(
    measured: NDArray[np.float64], ladder: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses [..., options] at falling shares from 1 to 0, those of the ladder among them, and the
    shares [options].

    Between two rungs a loss is a power of what is left out, and beyond the ends that of the first
    and the last two: straight lines between rungs would have every share at a rung.
    """
    shares_ = np.array(sorted({*np.linspace(0, 1, STEPS + 1).round(9), *ladder}, reverse=True))
    left_out, rungs = np.log(1 - shares_[1:]), np.log(1 - np.array(ladder))
    rising = np.log(np.maximum.accumulate(np.maximum(measured, _NOTHING), axis=-1))
    flat = rising.reshape(-1, len(rungs))
    losses = np.zeros((len(flat), len(shares_)))
    losses[:, 1:] = [np.exp(_powers(left_out, rungs, curve)) for curve in flat]
    return losses.reshape(*measured.shape[:-1], len(shares_)), shares_


def _powers(
    at: NDArray[np.float64], rungs: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Straight lines through values at rising rungs, the outer ones going on."""
    slopes = np.diff(values) / np.diff(rungs)
    below = values[0] + max(1.0, float(slopes[0])) * (at - rungs[0])
    above = values[-1] + max(1.0, float(slopes[-1])) * (at - rungs[-1])
    inside = np.interp(at, rungs, values)
    return np.where(at < rungs[0], below, np.where(at > rungs[-1], above, inside))


def summary(groups: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The distances, and shares at a density of 0.5: means, and by layer."""
    found = np.array(table(groups, 0.5, arrays))
    means = dict(zip(groups, found.mean(axis=0).tolist(), strict=True))
    rungs = {"rungs": list(LADDER), "kl": np.asarray(arrays[KL]).tolist()}
    return rungs | {"shares_density": 0.5, "shares": means, "shares_by_layer": found.tolist()}


def _alone(groups: int) -> list[list[tuple[float, ...]]]:
    """Shares of the groups of a layer with one of them at each rung and the others whole."""
    return [
        [tuple(rung if i == group else 1.0 for i in range(groups)) for rung in LADDER]
        for group in range(groups)
    ]


@dataclass(frozen=True)
class _Alone(Dense):
    """A method in one layer of a model that is dense in all others."""

    layer: int = 0
    method: Any = None

    @classmethod
    def of(cls, method: Shared, layer: int, row: tuple[float, ...]) -> Self:
        """The method with these shares in this layer; groups of attention stay whole."""
        own = cls(layer=layer, method=method.with_shares(row))
        object.__setattr__(own, "groups", tuple(g for g in method.groups if g in ATTENTION))
        return own

    def at(self, layer: int) -> Self:
        return self.method.at(layer) if layer == self.layer else self


def _expected(model: nn.Module, window: NDArray[np.int64]) -> Tensor:
    """Logarithms of what the dense model expects after each token but the last, as float16."""
    with torch.no_grad():
        return run(model, window)[0, :-1].float().log_softmax(-1).half()


def _distance(
    model: nn.Module, method: Any, windows: NDArray[np.int64], expected: Sequence[Tensor]
) -> float:
    """Mean KL over the tokens of windows, in nats."""
    with torch.no_grad(), applied(model, method):
        by_window = [_kl(known, run(model, w)) for known, w in zip(expected, windows, strict=True)]
    return float(np.mean(by_window))


def _kl(expected: Tensor, logits: Tensor) -> float:
    known = expected.float()
    apart = known - logits[0, :-1].float().log_softmax(-1)
    return float((known.exp() * apart).sum(-1).double().mean())
