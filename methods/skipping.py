"""The threshold of `ffn-skip`: found by bisection, with the model run as it is at each one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied, run_layers
from methods.base import MethodError
from methods.dynamic.dense import Dense
from methods.mlp import GatedMLP, gated_mlps
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.base import Select
    from methods.dynamic.ffn_skip import FFNSkip

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
    means = [np.mean(counter.used[layer]) for layer in sorted(counter.used)]
    return np.array(means, dtype=np.float64)


def _cosines(model: nn.Module, windows: NDArray[np.int64]) -> dict[str, list[float]]:
    """Mean cosines by layer of the dense model, by both definitions; the last layer has no next
    one that would say what comes of it."""
    watch = _Watch()
    with torch.no_grad(), applied(model, watch):
        _run(model, windows)
    return {
        f"cosine_{name}_by_layer": [float(np.mean(means)) for means in by_layer.values()]
        for name, by_layer in (("block", watch.block), ("ffn_output", watch.output))
    }


@dataclass(frozen=True)
class _Watch(Dense):
    """The dense model, with the cosines of every layer kept as its next one begins."""

    reads_blocks: ClassVar[bool] = True

    block: dict[int, list[float]] = field(default_factory=dict)
    output: dict[int, list[float]] = field(default_factory=dict)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        notes, hidden = mlp.passing.notes, mlp.passing.block_input
        assert hidden is not None
        if mlp.layer:
            for means, after in ((self.block, hidden), (self.output, notes["output"])):
                mean = float(cosine(notes["before"], after).mean())
                means.setdefault(mlp.layer - 1, []).append(mean)
        out = mlp.down(mlp.glu(x))
        notes |= {"before": hidden, "output": out}
        return out


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Of rows [..., hidden] -> float32 [...]."""
    one, other = one.float(), other.float()
    norms = one.norm(dim=-1) * other.norm(dim=-1)
    return (one * other).sum(dim=-1) / norms.clamp_min(1e-30)


def _run(model: nn.Module, windows: NDArray[np.int64]) -> None:
    device = next(model.parameters()).device
    for window in windows:
        run_layers(model, torch.from_numpy(window)[None].to(device))
