"""GLU pruning (paper, eq. 4 and Figure 5a)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Method, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class GLU(Method):
    """GLU pruning: columns of W_down where abs(GLU(x)) is small; W_up and W_gate stay dense."""

    name: ClassVar[str] = "glu"
    groups: ClassVar[tuple[str, ...]] = ("intermediate",)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        glu = mlp.glu(x)  # [..., intermediate]
        share = self.group_densities()["intermediate"]
        return mlp.down(pruned(select, "intermediate", glu, share))
