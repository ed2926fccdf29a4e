"""Up pruning (paper, section 3.2): gate pruning with the roles exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Method, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class Up(Method):
    """Up pruning: rows of W_gate and columns of W_down where abs(W_up x) is small."""

    name: ClassVar[str] = "up"
    groups: ClassVar[tuple[str, ...]] = ("gate-neuron",)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        gate, up = mlp.gate_up(x)  # [..., intermediate] each
        share = self.group_densities()["gate-neuron"]
        return mlp.down(pruned(select, "gate-neuron", up, share) * mlp.act(gate))
