"""Low-rank approximations of MLP matrices: W is near to U V, the best there is of its rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.matrices import weight
from methods.mlp import gated_mlps
from methods.training import Arrays, Lesson


@dataclass(frozen=True, slots=True)
class Branch:
    """U V x of a matrix."""

    u: Tensor  # [outputs, rank]
    v: Tensor  # [rank, inputs]

    def __call__(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs], without the bias."""
        return x @ self.v.to(x.dtype).T @ self.u.to(x.dtype).T


def learn(model: nn.Module, lesson: Lesson, matrices: Sequence[str], rank: int) -> Arrays:
    """U and V of these matrices of every layer, float16, named as `0.gate.u`, and by layer the part
    of the matrix's squares that they hold, `0.gate.held`. Goes on from the checkpoint."""
    arrays = {n: a for n, a in (lesson.checkpoint.load() or {}).items() if _is_branch(n)}
    for view in gated_mlps(model):
        wanted = [m for m in matrices if f"{view.layer}.{m}.held" not in arrays]
        for matrix in wanted:
            found = approximation(weight(view, matrix), rank)
            names = ("u", "v", "held")
            arrays |= {f"{view.layer}.{matrix}.{n}": a for n, a in zip(names, found, strict=True)}
        if wanted:
            lesson.checkpoint.save(arrays)
    return arrays


def _is_branch(name: str) -> bool:
    return name.endswith((".u", ".v", ".held"))


def approximation(matrix: Tensor, rank: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """U [outputs, rank] and V [rank, inputs], each with a root of the singular values, and the part
    of the squares of the matrix that U V holds."""
    u, values, v = torch.linalg.svd(matrix.detach().float(), full_matrices=False)
    roots, squares = values[:rank].sqrt(), values.double() ** 2
    held = squares[:rank].sum() / squares.sum().clamp_min(1e-30)
    left, right = u[:, :rank] * roots, roots[:, None] * v[:rank]
    return left.half().cpu().numpy(), right.half().cpu().numpy(), held.cpu().numpy()


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[Mapping[str, Branch], ...]:
    """The branches of all layers, by matrix, in float32."""
    layers: dict[int, dict[str, Branch]] = {}
    for name in arrays:
        if name.endswith(".u"):
            layer, matrix, _ = name.split(".")
            u, v = (_tensor(arrays[f"{layer}.{matrix}.{part}"], device) for part in "uv")
            layers.setdefault(int(layer), {})[matrix] = Branch(u, v)
    return tuple(layers[layer] for layer in sorted(layers))


def _tensor(array: NDArray[Any], device: str) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def summary(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The part of the squares of matrices that their approximations hold: means by matrix."""
    held: dict[str, list[float]] = {}
    for name in sorted(arrays):
        if name.endswith(".held"):
            held.setdefault(name.split(".")[1], []).append(float(arrays[name]))
    return {"held": {matrix: float(np.mean(parts)) for matrix, parts in held.items()}}
