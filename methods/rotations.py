"""Rotations of MLP inputs: their principal axes, and matrices that have them absorbed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import run_layers
from methods.mlp import GatedMLP, gated_mlps, projections
from methods.training import Arrays, Lesson


def train(model: nn.Module, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """Q of every layer, float32 [hidden, hidden] with its columns by falling variance, and the part
    of the variance that the first half of them holds."""
    covariances = second_moments(model, gated_mlps(model), lesson.windows)
    arrays: Arrays = {}
    halves = []
    for layer, moments in covariances.items():
        values, vectors = torch.linalg.eigh(moments)  # rising
        arrays[f"{layer}.rotation"] = vectors.flip(1).float().cpu().numpy()
        held = values.flip(0)[: len(values) // 2].sum() / values.sum().clamp_min(1e-30)
        halves.append(float(held))
    lesson.log(f"variance in the first half of the coordinates: {np.mean(halves):.3f}")
    return {"variance_in_half_by_layer": halves}, arrays


@torch.no_grad()
def second_moments(
    model: nn.Module, views: list[GatedMLP], windows: NDArray[np.int64]
) -> dict[int, Tensor]:
    """Sum of x x^T over the inputs of each layer's MLP, float64 [hidden, hidden]."""
    moments: dict[int, Tensor] = {}

    def add(layer: int, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).double()
        moments[layer] = moments.get(layer, torch.zeros((), dtype=rows.dtype)) + rows.T @ rows

    def adding(layer: int) -> Callable[..., None]:
        return lambda _module, args: add(layer, args[0])

    hooks = [view.module.register_forward_pre_hook(adding(view.layer)) for view in views]
    try:
        device = next(model.parameters()).device
        for window in windows:
            run_layers(model, torch.from_numpy(window)[None].to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return dict(sorted(moments.items()))


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[Tensor, ...]:
    """Q of all layers."""
    return tuple(
        torch.from_numpy(arrays[f"{layer}.rotation"]).to(device) for layer in range(len(arrays))
    )


@torch.no_grad()
def rotated(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """W_gate Q and W_up Q of every layer, by the names of the model's parameters."""
    weights: dict[str, Tensor] = {}
    for view in gated_mlps(model):
        rotation = torch.from_numpy(arrays[f"{view.layer}.rotation"])
        names = projections(view.module)
        for name in dict.fromkeys((names["gate"], names["up"])):
            weight: Any = view.module.get_submodule(name).weight
            turned = weight.double() @ rotation.to(weight.device).double()
            weights[f"{view.path}.{name}.weight"] = turned.to(weight.dtype)
    return weights
