"""DIP with a mask of its own for W_up and for W_gate (paper, appendix B.1 and Figure 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Method, MethodError, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class DIPSplit(Method):
    """DIP whose W_up and W_gate use different densities; `lean` is that of W_up less W_gate's.

    W_down has the density of the MLP, and so have both together: a study of whether unequal
    densities gain anything. What a density leaves no room for is cut off from `lean`.
    """

    lean: float = 0.0

    name: ClassVar[str] = "dip-split"
    groups: ClassVar[tuple[str, ...]] = ("up-input", "gate-input", "intermediate")

    def __post_init__(self) -> None:
        if not (isinstance(self.lean, int | float) and math.isfinite(self.lean)):
            raise MethodError(f"lean of dip-split must be a number, not {self.lean!r}")
        super().__post_init__()

    def group_densities(self) -> dict[str, float]:
        both = 2 * self.density
        up = min(max((both + self.lean) / 2, both - 1, 0.0), both, 1.0)
        return {"up-input": up, "gate-input": both - up, "intermediate": self.density}

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        share = self.group_densities()
        _, up = mlp.gate_up(pruned(select, "up-input", x, share["up-input"]))
        gate, _ = mlp.gate_up(pruned(select, "gate-input", x, share["gate-input"]))
        glu = mlp.act(gate) * up  # [..., intermediate]
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))
