"""Dynamic Input Pruning (paper, section 4, eq. 7 and 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import Method, MethodError

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP

ALLOCATIONS = ("paper", "uniform")


@dataclass(frozen=True)
class DIP(Method):
    """Dynamic Input Pruning: small inputs of W_up and W_gate, then small abs(GLU~(x)).

    `allocation` splits the density: `paper` by the published fit (Figure 12), `uniform` equally.
    """

    allocation: str = "paper"

    name: ClassVar[str] = "dip"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        allocation = parameters.get("allocation", "paper")
        if allocation not in ALLOCATIONS:
            known = ", ".join(ALLOCATIONS)
            raise MethodError(f"unknown allocation {allocation!r} of dip (known: {known})")
        return 0.0, 1.0

    def group_densities(self) -> dict[str, float]:
        d_in = _paper_input_density(self.density) if self.allocation == "paper" else self.density
        return {"input": d_in, "intermediate": max(0.0, 3 * self.density - 2 * d_in)}

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        density = self.group_densities()
        x = x * select("input", x.abs(), density["input"])  # eq. 7
        glu = mlp.glu(x)  # GLU~(x): from the pruned W_up and W_gate
        return mlp.down(glu * select("intermediate", glu.abs(), density["intermediate"]))  # eq. 8


def _paper_input_density(density: float) -> float:
    """Figure 12: d_in = sigmoid(0.98499307 logit(D) + 0.29976478), one curve for all models."""
    if density >= 1:
        return 1.0
    logit = 0.98499307 * math.log(density / (1 - density)) + 0.29976478
    return min(1 / (1 + math.exp(-logit)), 1.5 * density)
