"""Rotations after which the columns of W are orthogonal: the right singular vectors of W.

W V = U Sigma, so columns of W V by falling norm are the singular values of W. What a rotated input
loses then adds up without cross terms, which is what the theorem of WINA wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import rotations
from methods.attention import Attention, attentions, weight_of
from methods.matrices import weight
from methods.mlp import gated_mlps
from methods.training import Arrays

KINDS = MLP, ATTENTION = "rotation", "attention-rotation"


@torch.no_grad()
def found(model: nn.Module, attention: bool) -> tuple[dict[str, Any], Arrays]:
    """V of W_gate of every layer, float32 [hidden, hidden], as `0.rotation`, and with `attention`
    that of W_q, W_k and W_v, one under the other, as `0.attention-rotation`; and by layer the part
    of the squares of W_gate that the first half of its columns holds."""
    arrays: Arrays = {}
    halves = []
    for view in gated_mlps(model):
        vectors, squares = _right_singular(weight(view, "gate"))
        arrays[f"{view.layer}.{MLP}"] = vectors.float().cpu().numpy()
        halves.append(float(squares[: len(squares) // 2].sum() / squares.sum().clamp_min(1e-30)))
    for view in attentions(model) if attention else ():
        stacked = torch.cat([weight_of(module) for module in view.inputs])
        arrays[f"{view.layer}.{ATTENTION}"] = _right_singular(stacked)[0].float().cpu().numpy()
    return {"gate_in_half_by_layer": halves}, arrays


def _right_singular(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """V with its columns by falling singular value, and the squares of these, in float64."""
    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide)  # rising
    return vectors.flip(1), values.flip(0)


def load(arrays: Mapping[str, NDArray[Any]], kind: str, device: str) -> tuple[Tensor, ...]:
    """V of all layers: `MLP` or `ATTENTION`; empty where there is none."""
    layers = sum(name.endswith(f".{kind}") for name in arrays)
    every = (arrays[f"{layer}.{kind}"] for layer in range(layers))
    return tuple(torch.from_numpy(rotation).to(device) for rotation in every)


@torch.no_grad()
def rotated(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """W V in the place of W_gate, W_up and, where attention is rotated, of W_q, W_k and W_v, by the
    names of the model's parameters."""
    weights = rotations.rotated(model, arrays)
    turned = load(arrays, ATTENTION, str(next(model.parameters()).device))
    for view, rotation in zip(attentions(model) if turned else (), turned, strict=True):
        for name, module in _inputs(view).items():
            old = weight_of(module)
            weights[f"{view.path}.{name}.weight"] = (old.double() @ rotation.double()).to(old.dtype)
    return weights


def _inputs(view: Attention) -> dict[str, nn.Module]:
    """W_q, W_k and W_v, or the module that holds all three, by name."""
    ours = {id(module) for module in view.inputs}
    return {name: part for name, part in view.module.named_children() if id(part) in ours}
