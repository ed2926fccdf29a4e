"""TEAL: training-free activation sparsity (Liu et al. 2024, arXiv 2408.14690)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.attending import Attending
from methods.base import pruned
from methods.matrices import gate_of, up_of

if TYPE_CHECKING:
    from torch import Tensor

    from methods.attention import Attention
    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class TEAL(Attending):
    """Columns of W_gate, W_up and W_down are left out where the input of each is small.

    Each matrix has a threshold of its own: W_gate and W_up too, on the same x. Thresholds are
    quantiles of abs(x) on calibration text, where the source takes those of a symmetric histogram;
    all tokens are pruned, where its released code leaves the first half of a prompt dense. With
    `attention`, W_q, W_k and W_v have one mask, as they have one input; in the source each has a
    threshold of its own.
    """

    name: ClassVar[str] = "teal"
    groups: ClassVar[tuple[str, ...]] = ("gate-input", "up-input", "intermediate")
    selector: ClassVar[str] = "layer-threshold"

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        share = self.group_densities()
        gate = gate_of(mlp, pruned(select, "gate-input", x, share["gate-input"]))
        up = up_of(mlp, pruned(select, "up-input", x, share["up-input"]))
        glu = mlp.act(gate) * up  # from the pruned W_gate and W_up
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))

    def pruned_attention(
        self, attention: Attention, group: str, x: Tensor, select: Select
    ) -> Tensor:
        return pruned(select, group, x, self.group_densities()[group])
