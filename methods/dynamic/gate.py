"""Gate pruning (paper, eq. 5 and Figure 5b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Method, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class Gate(Method):
    """Gate pruning: rows of W_up and columns of W_down where abs(act(W_gate x)) is small."""

    name: ClassVar[str] = "gate"
    groups: ClassVar[tuple[str, ...]] = ("up-neuron",)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        gate, up = mlp.gate_up(x)
        gate = mlp.act(gate)  # [..., intermediate]
        share = self.group_densities()["up-neuron"]
        return mlp.down(up * pruned(select, "up-neuron", gate, share))
