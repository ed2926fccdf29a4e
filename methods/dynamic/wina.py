"""WINA: weight-informed activation sparsity (Chen et al. 2025, arXiv 2505.19427)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods.attending import NONE
from methods.base import MethodError
from methods.density import ATTENTION
from methods.dynamic.weighed import Weighed
from methods.matrices import column_norms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.attention import Attention
    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.training import Lesson

VARIANTS = ("paper", "code")


@dataclass(frozen=True)
class WINA(Weighed):
    """As teal with the score abs(x_j) ||W[:, j]||_2: small inputs of small columns are left out.

    The theorem of the source wants W with orthogonal columns. With `rotation`, W_gate V and W_up V
    are in the model's place, V the right singular vectors of W_gate, and x is brought into the
    basis of V: the columns of W_gate V are orthogonal. With `attention` W_q, W_k and W_v are turned
    likewise. Decided here: the source turns the hidden state and merges V into its neighbours but
    for the residual, here what brings x into the basis, h² weights a layer for each V, is in DRAM,
    as la-rosa's is; V of attention is that of all three matrices, which have one mask, where the
    source has that of W_k, whose columns are dependent with grouped heads; shares are searched for
    without the rotation, as the source takes TEAL's; W_o and W_down are as they are.
    """

    variant: str = "paper"
    """paper: the norm of each matrix; code: as released, of W_gate and W_k, the others by abs(x)"""
    rotation: bool = False
    """whether W_gate, and W_q, W_k and W_v, are turned so that their columns are orthogonal"""
    _rotations: tuple[Tensor, ...] = ()
    _attention_rotations: tuple[Tensor, ...] = ()

    name: ClassVar[str] = "wina"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rotates", self.rotation)

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        variant = parameters.get("variant", "paper")
        if variant not in VARIANTS:
            raise MethodError(f"variant {variant!r} of wina: {' or '.join(VARIANTS)} is expected")
        if not isinstance(parameters.get("rotation", False), bool):
            raise MethodError("rotation of wina: true or false is expected")
        return super().reach(parameters)

    @classmethod
    def rotates_with(cls, parameters: Mapping[str, Any]) -> bool:
        return bool(parameters.get("rotation"))

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

    # -- rotation ----------------------------------------------------------------------------

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        return super().forward(mlp, self._turned(x, self._rotations, mlp.layer), select)

    def pruned_attention(
        self, attention: Attention, group: str, x: Tensor, select: Select
    ) -> Tensor:
        if group == ATTENTION[0]:
            x = self._turned(x, self._attention_rotations, attention.layer)
        return super().pruned_attention(attention, group, x, select)

    def _turned(self, x: Tensor, rotations: tuple[Tensor, ...], layer: int) -> Tensor:
        """V^T x where the model has W V, x where it has W."""
        if not self.rotation:
            return x
        if not rotations:
            raise MethodError("wina has no rotations yet: train it first")
        return x @ rotations[layer].to(x.dtype)

    def overhead_weights(self, hidden: int, intermediate: int) -> int:
        turned = 1 if self.attention == NONE else 2
        return turned * hidden * hidden if self.rotation else 0

    def learns(self) -> bool:
        return self.rotation or super().learns()

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        summary, arrays = super().train(model, lesson)
        if not self.rotation:
            return summary, arrays
        from methods import singular

        held, turned = singular.found(model, self.attention != NONE)
        return summary | held, arrays | turned

    def with_learnt(self, arrays: Mapping[str, NDArray[np.generic]], model: nn.Module) -> Self:
        return super(WINA, replace(self, rotation=False)).with_learnt(arrays, model)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        ready = super().with_state(arrays, device)
        if not self.rotation:
            return ready
        from methods import singular

        mlp, attention = (singular.load(arrays, of, device) for of in singular.KINDS)
        return replace(ready, _rotations=mlp, _attention_rotations=attention)

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        from methods import singular

        return singular.rotated(model, arrays) if self.rotation else {}
