"""Cheap copies of W_gate and W_up that say which neurons may be large, and how right they are.

Low-rank: the nearest U V of a rank. Low-bit: each row rounded to the nearest of 2^b - 1 multiples
of a scale of its own, symmetric about 0 (of 1 bit, its sign times the mean magnitude).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import low_rank
from methods.density import kept_units
from methods.matrices import gate_of, up_of, weight
from methods.mlp import GatedMLP, gated_mlps
from methods.select import topk_mask
from methods.share_search import dense_inputs
from methods.training import Arrays, Lesson

MATRICES = ("gate", "up")
KEPT = (0.1, 0.2, 0.3)
"""Shares k / m at which recall is measured."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Near to GLU(x) of one layer."""

    near: Mapping[str, low_rank.Branch | LowBit]

    def __call__(self, mlp: GatedMLP, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., intermediate], with the MLP's own biases."""
        nothing = torch.zeros_like(x[..., :1, :])
        gate = self.near["gate"](x) + gate_of(mlp, nothing)
        up = self.near["up"](x)
        activation = getattr(mlp.module, "up_act", None)
        up = up + up_of(mlp, nothing) if activation is None else activation(up)  # dReLU: no biases
        return mlp.act(gate) * up


@dataclass(frozen=True, slots=True)
class LowBit:
    """A rounded matrix: whole numbers [outputs, inputs] and a scale for each row [outputs]."""

    levels: Tensor
    scales: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.levels.to(x.dtype).T * self.scales.to(x.dtype)


def rounded(matrix: Tensor, bits: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Levels int8 and scales float16 of a matrix at so many bits."""
    values = matrix.detach().float()
    if bits == 1:
        levels, scales = values.sign(), values.abs().mean(dim=1)
    else:
        most = 2 ** (bits - 1) - 1
        scales = values.abs().amax(dim=1).clamp_min(1e-12) / most
        levels = (values / scales[:, None]).round().clamp(-most, most)
    return levels.to(torch.int8).cpu().numpy(), scales.half().cpu().numpy()


def train(
    model: nn.Module, lesson: Lesson, rank: int, bits: int, ratio: float
) -> tuple[dict[str, Any], Arrays]:
    """The scorer of every layer, of this rank or, where it is 0, of these bits, and its recall."""
    views = gated_mlps(model)
    if rank:
        arrays = low_rank.learn(model, lesson, MATRICES, rank)
    else:
        arrays = {}
        for view in views:
            for matrix in MATRICES:
                levels, scales = rounded(weight(view, matrix), bits)
                arrays[f"{view.layer}.{matrix}.levels"] = levels
                arrays[f"{view.layer}.{matrix}.scales"] = scales
    device = str(next(model.parameters()).device)
    inputs = dense_inputs(model, views, lesson.windows)
    recalls = [
        recall(scorer, view, inputs[view.layer], ratio)
        for scorer, view in zip(load(arrays, device), views, strict=True)
    ]
    summary: dict[str, Any] = {"kept": list(KEPT), "recall_by_layer": recalls}
    summary["recall"] = np.mean(recalls, axis=0).tolist()
    lesson.log(f"recall at k / m of {KEPT} with {ratio:g} k candidates: {summary['recall']}")
    return summary, arrays


@torch.no_grad()
def recall(scorer: Scorer, view: GatedMLP, x: Tensor, ratio: float) -> list[float]:
    """Share of the k largest abs(GLU(x)) that are among the `ratio` k candidates, for each of
    `KEPT`; x is [1, tokens, hidden]."""
    exact, guess = view.glu(x).abs(), scorer(view, x).abs()
    units, shares = exact.shape[-1], []
    for share in KEPT:
        k = kept_units(share, units)
        largest = topk_mask(exact, k)
        candidates = topk_mask(guess, min(units, round(ratio * k)))
        shares.append(float((largest & candidates).sum() / largest.sum()))
    return shares


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[Scorer, ...]:
    """The scorers of all layers."""
    if not any(name.endswith(".levels") for name in arrays):
        return tuple(Scorer(branches) for branches in low_rank.load(arrays, device))
    count = sum(name.endswith(".gate.levels") for name in arrays)
    return tuple(_low_bit(arrays, layer, device) for layer in range(count))


def _low_bit(arrays: Mapping[str, NDArray[Any]], layer: int, device: str) -> Scorer:
    near = {}
    for matrix in MATRICES:
        levels, scales = (_tensor(arrays[f"{layer}.{matrix}.{n}"], device) for n in _PARTS)
        near[matrix] = LowBit(levels, scales)
    return Scorer(near)


_PARTS = ("levels", "scales")


def _tensor(array: NDArray[Any], device: str) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)
