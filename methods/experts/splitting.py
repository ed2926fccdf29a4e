"""A dense gated MLP as shared and routed experts of the same neurons.

Neurons whose contribution is largest on calibration text are shared; the others are clustered by
their rows of W_gate into experts of one size, and a linear router predicts from the MLP's input how
much each of these contributes. With all experts on it is the MLP again: no weight is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from methods.base import MethodError
from methods.matrices import weight

if TYPE_CHECKING:
    from methods.mlp import GatedMLP

ROUNDS = 10
"""Of the clustering."""
RIDGE = 1e-2
"""Of the router's fit, over the mean square of an input."""
SPREAD = 1e-3
"""Standard deviation of the routers' logits: sigmoids are then 1/2 to a thousandth, so that experts
are mixed with equal weights, and still tell apart thousands of steps in 32 bits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`shared` and `routed` experts of one width in each layer; a token uses `chosen` of the
    latter."""

    shared: int
    routed: int
    chosen: int

    def width(self, intermediate: int) -> int:
        """Neurons of an expert. Raises MethodError where they do not make the MLP."""
        parts = self.shared + self.routed
        if min(self.shared, self.routed, self.chosen) < 1 or self.chosen > self.routed:
            raise MethodError(
                f"{self.shared} shared and {self.routed} routed experts, {self.chosen} of them "
                "chosen: at least one of each is needed, and no more can be chosen than there are"
            )
        if intermediate % parts:
            raise MethodError(
                f"{parts} experts do not divide the {intermediate} neurons of an MLP equally"
            )
        return intermediate // parts


@dataclass(frozen=True, slots=True)
class SplitMLP:
    """Which neurons are where, and the router of one layer."""

    shared: Tensor
    """Neurons, int64 [shared * width]."""
    routed: Tensor
    """Neurons by expert, int64 [routed, width]."""
    router: Tensor
    """float32 [routed, hidden]: logits are its product with the MLP's input."""
    bias: Tensor
    """float32 [routed], of choosing alone."""
    share: float
    """Of the energy of routed neurons on the calibration text, what the chosen experts have."""


@torch.no_grad()
def split(mlp: GatedMLP, x: Tensor, shape: Shape, seed: int = 0) -> SplitMLP:
    """Split one MLP by its inputs x [tokens, hidden] on calibration text.

    The energy of a neuron is the square of its GLU activation times the norm of its column of
    W_down. Raises MethodError for a shape that does not fit.
    """
    width = shape.width(mlp.intermediate)
    energy = (mlp.glu(x) * weight(mlp, "down").norm(dim=0)).square()  # [tokens, intermediate]
    order = energy.mean(dim=0).argsort(descending=True, stable=True)
    shared, rest = order[: shape.shared * width], order[shape.shared * width :].sort().values
    rows = torch.nn.functional.normalize(weight(mlp, "gate")[rest].float(), dim=1)
    routed = rest[clusters(rows, shape.routed, seed)]
    of_experts = energy[:, routed].sum(dim=-1)  # [tokens, routed]
    slopes, means = _fitted(x.float(), of_experts.sqrt())
    predicted = x.float() @ slopes.T
    scale = SPREAD / predicted.std()
    best = (predicted + means).topk(shape.chosen, dim=-1).indices
    share = of_experts.gather(1, best).sum() / of_experts.sum()
    return SplitMLP(
        shared.sort().values, routed, slopes * scale, means * scale / 4, float(share)
    )  # a sigmoid's slope at 0 is 1/4


def clusters(rows: Tensor, count: int, seed: int) -> Tensor:
    """Rows [units, inputs] in `count` clusters of equal size by cosine, int64 [count, size].

    k-means whose clusters fill up: in each round rows choose in order of how near their best is.
    """
    generator = torch.Generator().manual_seed(seed)
    size = len(rows) // count
    centres = rows[torch.randperm(len(rows), generator=generator)[:count]]
    members = torch.empty(0)
    for _ in range(ROUNDS):
        members = _assigned(rows @ centres.T, size)
        centres = torch.nn.functional.normalize(rows[members].mean(dim=1), dim=1)
    return members


def _assigned(similar: Tensor, size: int) -> Tensor:
    """Units by cluster, of similarities [units, clusters]."""
    wished = similar.argsort(dim=1, descending=True, stable=True).tolist()
    first = similar.max(dim=1).values.argsort(descending=True, stable=True).tolist()
    members: list[list[int]] = [[] for _ in range(similar.shape[1])]
    for unit in first:
        open_one = next(cluster for cluster in wished[unit] if len(members[cluster]) < size)
        members[open_one].append(unit)
    return torch.tensor([sorted(units) for units in members])


def _fitted(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression: slopes [targets, inputs] and what is left at x = 0, [targets]."""
    inputs, wanted = x.double(), targets.double()
    middle, mean = inputs.mean(dim=0), wanted.mean(dim=0)
    inputs, wanted = inputs - middle, wanted - mean
    gram = inputs.T @ inputs
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    slopes = torch.linalg.solve(gram, inputs.T @ wanted).T
    return slopes.float(), (mean - slopes @ middle).float()
