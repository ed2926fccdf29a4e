"""Inputs weighed by the columns that they meet: what WINA and WAS have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.attending import NONE, Attending
from methods.density import ATTENTION
from methods.matrices import gate_of, up_of

if TYPE_CHECKING:
    from torch import Tensor

    from methods.attention import Attention
    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class Weighed(Attending):
    """Columns of W_gate, W_up and W_down are left out where abs(x_j) times a norm of column j is
    small; with `attention`, of W_q, W_k and W_v as one matrix, and of W_o."""

    groups: ClassVar[tuple[str, ...]] = ("gate-input", "up-input", "intermediate")

    def weighed_matrices(self) -> tuple[str, ...]:
        """Matrices whose columns weigh their inputs; the inputs of others count as they are."""
        return ("gate", "up", "down")

    @abstractmethod
    def norms(self, mlp: GatedMLP, matrix: str) -> Tensor:
        """What each input of a matrix is weighed by, float32 [inputs]."""

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        gate = gate_of(mlp, self._kept(mlp, "gate", x, select))
        up = up_of(mlp, self._kept(mlp, "up", x, select))
        glu = mlp.act(gate) * up  # from the pruned W_gate and W_up
        return mlp.down(self._kept(mlp, "down", glu, select))

    def _kept(self, mlp: GatedMLP, matrix: str, x: Tensor, select: Select) -> Tensor:
        """x with zeros where abs(x_j) norm_j is not selected."""
        group = "intermediate" if matrix == "down" else f"{matrix}-input"
        scores = x.abs()
        if matrix in self.weighed_matrices():
            scores = scores.float() * self.norms(mlp, matrix)
        return x * select(group, scores, self.group_densities()[group]).to(x.dtype)

    def weighed_groups(self) -> tuple[str, ...]:
        """Groups of attention whose columns weigh their inputs."""
        return ATTENTION

    @abstractmethod
    def attention_norms(self, attention: Attention, group: str) -> Tensor:
        """What each input of a group of attention is weighed by, float32 [units]."""

    def pruned_attention(
        self, attention: Attention, group: str, x: Tensor, select: Select
    ) -> Tensor:
        scores = x.abs()
        if group in self.weighed_groups():
            scores = scores.float() * self.attention_norms(attention, group)
        return x * select(group, scores, self.group_densities()[group]).to(x.dtype)

    def resident_numbers(self, hidden: int, intermediate: int, attention_width: int = 0) -> int:
        sizes = {"gate": hidden, "up": hidden, "down": intermediate}
        numbers = sum(sizes[matrix] for matrix in self.weighed_matrices())
        if self.attention == NONE:
            return numbers
        units: dict[str, int] = dict(zip(ATTENTION, (hidden, attention_width), strict=True))
        return numbers + sum(units[group] for group in self.weighed_groups())
