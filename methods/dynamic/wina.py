"""WINA: weight-informed activation sparsity (Chen et al. 2025, arXiv 2505.19427)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import MethodError
from methods.density import ATTENTION
from methods.dynamic.weighed import Weighed
from methods.matrices import column_norms

if TYPE_CHECKING:
    from torch import Tensor

    from methods.attention import Attention
    from methods.mlp import GatedMLP

VARIANTS = ("paper", "code")


@dataclass(frozen=True)
class WINA(Weighed):
    """As teal with the score abs(x_j) ||W[:, j]||_2: small inputs of small columns are left out.

    The theorem of the source wants W with orthogonal columns, which it makes of W_gate by a
    rotation; here the model is as it is.
    """

    variant: str = "paper"
    """paper: the norm of each matrix; code: as released, of W_gate and W_k, the others by abs(x)"""

    name: ClassVar[str] = "wina"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        variant = parameters.get("variant", "paper")
        if variant not in VARIANTS:
            raise MethodError(f"variant {variant!r} of wina: {' or '.join(VARIANTS)} is expected")
        return super().reach(parameters)

    def weighed_matrices(self) -> tuple[str, ...]:
        return ("gate", "up", "down") if self.variant == "paper" else ("gate",)

    def weighed_groups(self) -> tuple[str, ...]:
        return ATTENTION if self.variant == "paper" else ATTENTION[:1]

    def attention_norms(self, attention: Attention, group: str) -> Tensor:
        if self.variant == "code":
            return attention.key_norms(order=2)
        return attention.column_norms(group, order=2)

    def norms(self, mlp: GatedMLP, matrix: str) -> Tensor:
        return column_norms(mlp, matrix, order=2)
