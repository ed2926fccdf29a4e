"""The unpruned MLP: the baseline of every table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class Dense(Method):
    """The unpruned MLP (eq. 1 and 2); all of it is read by every token."""

    name: ClassVar[str] = "dense"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        return 1.0, 1.0

    def group_densities(self) -> dict[str, float]:
        return {}

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        return mlp.down(mlp.glu(x))
