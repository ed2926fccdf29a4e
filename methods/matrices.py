"""The three matrices of a gated MLP one by one, where a method treats them apart.

Methods import this at their top, so torch is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from methods.mlp import GatedMLP


def gate_of(mlp: GatedMLP, x: Tensor) -> Tensor:
    """W_gate x, with its bias: [..., hidden] -> [..., intermediate]."""
    names = _projections(mlp)
    if names["gate"] == names["up"]:
        return mlp.gate_up(x)[0]
    return mlp.module.get_submodule(names["gate"])(x)


def up_of(mlp: GatedMLP, x: Tensor) -> Tensor:
    """W_up x, with its bias and, of dReLU, its activation: [..., hidden] -> [..., intermediate]."""
    names = _projections(mlp)
    if names["gate"] == names["up"]:
        return mlp.gate_up(x)[1]
    up = mlp.module.get_submodule(names["up"])(x)
    activation = getattr(mlp.module, "up_act", None)
    return up if activation is None else activation(up)


def raw_gate_up(mlp: GatedMLP, x: Tensor) -> tuple[Tensor, Tensor]:
    """W_gate x and W_up x with their biases, of an MLP that activates W_gate x alone."""
    if getattr(mlp.module, "up_act", None) is not None:
        raise ValueError(f"{mlp.path} activates W_up x")
    return mlp.gate_up(x)


def weight(mlp: GatedMLP, matrix: str) -> Tensor:
    """The weights `gate`, `up` [intermediate, hidden] or `down` [hidden, intermediate]."""
    names = _projections(mlp)
    values: Any = mlp.module.get_submodule(names[matrix]).weight
    if matrix != "down" and names["gate"] == names["up"]:
        return values.chunk(2)[0 if matrix == "gate" else 1]
    return values


def column_norms(mlp: GatedMLP, matrix: str, order: float) -> Tensor:
    """The norm of each column of a matrix, float32 [inputs of it]; `order` 1 sums magnitudes."""
    import torch

    values = weight(mlp, matrix).detach().float()
    return torch.linalg.vector_norm(values, ord=order, dim=0)


def _projections(mlp: GatedMLP) -> dict[str, str]:
    from methods.mlp import projections

    return projections(mlp.module)
