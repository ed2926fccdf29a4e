"""The most frequent values of the inputs of MLP matrices, and the biases that they fold into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.base import MethodError
from methods.matrices import raw_gate_up
from methods.mlp import GatedMLP, gated_mlps
from methods.share_search import dense_inputs
from methods.training import Arrays, Lesson

_NAMES = ("x_mode", "glu_mode", "gate_bias", "up_bias", "down_bias")


@dataclass(frozen=True, slots=True)
class Shifts:
    """Modes of a layer's two inputs, [1] or [units], and the biases W mode of its matrices."""

    x_mode: Tensor
    glu_mode: Tensor
    gate_bias: Tensor  # [intermediate]
    up_bias: Tensor  # [intermediate]
    down_bias: Tensor  # [hidden]

    def to(self, like: Tensor) -> Shifts:
        """In the type of a tensor, and where it is."""
        return Shifts(*(getattr(self, name).to(like.device, like.dtype) for name in _NAMES))


def learn(model: nn.Module, lesson: Lesson, by_unit: bool) -> Arrays:
    """Modes and biases of every layer, float32, by names as `0.x_mode`; raises MethodError for an
    MLP that activates W_up x, as a bias before that would not be its."""
    views = gated_mlps(model)
    if any(getattr(view.module, "up_act", None) is not None for view in views):
        raise MethodError("scap folds modes into biases; an MLP that activates W_up x has no place")
    inputs = dense_inputs(model, views, lesson.windows)
    arrays: Arrays = {}
    for view in views:
        found = shifts(view, inputs[view.layer], by_unit)
        arrays |= {f"{view.layer}.{n}": getattr(found, n).cpu().numpy() for n in _NAMES}
    return arrays


@torch.no_grad()
def shifts(mlp: GatedMLP, x: Tensor, by_unit: bool) -> Shifts:
    """Modes of the inputs [..., hidden] of a layer and of what W_down gets for them."""
    x = x.reshape(-1, x.shape[-1])
    x_mode, glu_mode = (_mode_of(values, by_unit) for values in (x, mlp.glu(x)))
    bias = _added(lambda at: raw_gate_up(mlp, at), x_mode.expand(mlp.hidden).to(x))
    down = _added(lambda at: (mlp.down(at),), glu_mode.expand(mlp.intermediate).to(x))
    return Shifts(x_mode, glu_mode, *bias, *down)


def _mode_of(values: Tensor, by_unit: bool) -> Tensor:
    return half_sample_mode(values.float() if by_unit else values.float().reshape(-1, 1))


def _added(linear: Any, at: Tensor) -> list[Tensor]:
    """What a linear map with biases adds for an input to what it gives for none."""
    pairs = zip(linear(at[None]), linear(torch.zeros_like(at)[None]), strict=True)
    return [(there - nothing)[0].float() for there, nothing in pairs]


def half_sample_mode(values: Tensor) -> Tensor:
    """The mode of each column of [count, columns]: the half of all points that lie closest, the
    half of these, and so on; then the mean of the closest two or less (Bickel and Frühwirth 2006).
    """
    points = values.sort(dim=0).values
    while len(points) > 2:
        half = (len(points) + 1) // 2
        widths = points[half - 1 :] - points[: len(points) - half + 1]
        first = widths.argmin(dim=0)  # the lowest of equally close ones
        points = points.gather(0, first + torch.arange(half, device=values.device)[:, None])
        if half == 2:
            break
    return points.mean(dim=0)


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[Shifts, ...]:
    """The shifts of all layers."""
    count = 1 + max(int(n.split(".")[0]) for n in arrays if n.endswith(".x_mode"))
    return tuple(
        Shifts(*(torch.from_numpy(arrays[f"{layer}.{name}"]).to(device) for name in _NAMES))
        for layer in range(count)
    )


def summary(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The mean mode of each layer's inputs, and of what W_down gets, as JSON."""
    count = sum(name.endswith(".x_mode") for name in arrays)
    return {
        f"{name}_by_layer": [float(np.mean(arrays[f"{layer}.{name}"])) for layer in range(count)]
        for name in _NAMES[:2]
    }
