"""The threshold of `ffn-skip`: found by bisection, with the model run as it is at each one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied, run_layers
from methods.base import MethodError
from methods.dynamic.ffn_skip import SIMILARITIES, FFNSkip, cosine
from methods.mlp import GatedMLP, gated_mlps
from methods.training import Arrays, Lesson

TRIES = 12
TOLERANCE = 0.002
"""Of the share of MLPs that are computed."""


def train(model: nn.Module, method: FFNSkip, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """The threshold at which the MLPs that are computed make the method's density.

    Raises MethodError where even a threshold below all cosines skips too few.
    """
    layers = len(gated_mlps(model))
    low, high = -1.1, 1.1  # at the low end all that may be skipped is, at the high end nothing
    least = _computed(model, method.at_threshold(low, layers), lesson.windows)
    if method.density < float(least.mean()) - TOLERANCE:
        raise MethodError(
            f"ffn-skip with skips {method.skips} and cold {method.cold} computes at least "
            f"{least.mean():.3g} of the MLPs of {layers} layers; density {method.density:g} is out "
            "of reach"
        )
    computed = least
    threshold = low
    for _ in range(TRIES):
        if abs(float(computed.mean()) - method.density) <= TOLERANCE:
            break
        threshold = (low + high) / 2
        computed = _computed(model, method.at_threshold(threshold, layers), lesson.windows)
        lesson.log(f"threshold {threshold:.5f}: {computed.mean():.4f} of the MLPs are computed")
        if float(computed.mean()) > method.density:
            high = threshold
        else:
            low = threshold
    summary: dict[str, Any] = {
        "threshold": threshold,
        "computed": float(computed.mean()),
        "skipped_by_layer": (1 - computed).tolist(),
        **_cosines(model, lesson.windows),
    }
    return summary, {"threshold": np.array(threshold), "layers": np.array(layers)}


@dataclass(slots=True)
class _Counter:
    """A selector that takes the masks as they are given and counts whole MLPs."""

    used: dict[int, list[float]] = field(default_factory=dict)

    def __call__(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        self.used.setdefault(layer, []).append(float(scores[..., 0].mean()))
        return scores


def _computed(model: nn.Module, method: FFNSkip, windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of tokens that compute the MLP of a layer, [layers]."""
    counter = _Counter()
    with torch.no_grad(), applied(model, method, counter):
        _run(model, windows)
    return np.array([np.mean(counter.used[layer]) for layer in sorted(counter.used)])


def _cosines(model: nn.Module, windows: NDArray[np.int64]) -> dict[str, list[float]]:
    """Mean cosines by layer of the dense model, by both definitions."""
    watch = _Watch(similarity="block")
    with torch.no_grad(), applied(model, watch, lambda _layer, _group, scores, _share: scores):
        _run(model, windows)
    return {
        f"cosine_{name.replace('-', '_')}_by_layer": [float(np.mean(v)) for v in by_layer.values()]
        for name, by_layer in zip(SIMILARITIES, watch.seen, strict=True)
    }


@dataclass(frozen=True)
class _Watch(FFNSkip):
    """Skips nothing, and keeps the cosines of every layer but the last."""

    seen: Sequence[dict[int, list[float]]] = ({}, {})

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seen", ({}, {}))

    def _left(self, mlp: GatedMLP, hidden: Tensor) -> Tensor:
        notes = mlp.passing.notes
        if mlp.layer:
            for by_layer, after in zip(self.seen, (hidden, notes["output"]), strict=True):
                mean = float(cosine(notes["before"], after).mean())
                by_layer.setdefault(mlp.layer - 1, []).append(mean)
        return hidden.new_zeros(hidden.shape[:-1], dtype=int)


def _run(model: nn.Module, windows: NDArray[np.int64]) -> None:
    device = next(model.parameters()).device
    for window in windows:
        run_layers(model, torch.from_numpy(window)[None].to(device))
