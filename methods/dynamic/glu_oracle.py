"""GLU pruning by an oracle (paper, Tables 1 and 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Method, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class GLUOracle(Method):
    """GLU pruning with abs(GLU(x)) known in advance: whole neurons are left out.

    No device can do this; it bounds what any predictor can reach (paper, section 3.3).
    """

    name: ClassVar[str] = "glu-oracle"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    oracle: ClassVar[bool] = True

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        glu = mlp.glu(x)  # [..., intermediate]
        return mlp.down(pruned(select, "neuron", glu, self.density))
