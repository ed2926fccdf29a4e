"""DIP with shares of its own for each group in each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods import share_tables, shares
from methods.base import pruned
from methods.share_tables import GROUP_SENSITIVITY
from methods.shared import Shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.training import Arrays, Lesson


@dataclass(frozen=True)
class DIPShares(Shared):
    """DIP whose inputs and intermediate units have a share of their own in each layer.

    Where DIP splits its density by one curve for all models and layers, `shares` are given (those
    that `sweep allocate` writes too), or found on the calibration text. With shares that are given
    the density is theirs and need not be written.
    """

    name: ClassVar[str] = "dip-shares"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")
    own_shares: ClassVar[tuple[str, ...]] = (GROUP_SENSITIVITY,)

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        given = share_tables.density_of(parameters.get("shares", shares.UNIFORM), cls.groups)
        return super().reach(parameters) if given is None else (given, given)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        share = self.group_densities()
        x = pruned(select, "input", x, share["input"])  # paper, eq. 7
        glu = mlp.glu(x)
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))  # eq. 8

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        if self.shares != GROUP_SENSITIVITY:
            return {}
        from methods import group_sensitivity

        return group_sensitivity.measure(model, self, lesson)

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        if not learnt:
            return {}
        from methods import group_sensitivity

        return group_sensitivity.summary(self.mlp_groups, learnt)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        if self.shares != GROUP_SENSITIVITY:
            return super().with_state(arrays, device)
        from methods import group_sensitivity

        found = group_sensitivity.table(self.mlp_groups, self.density, arrays)
        return replace(self, _table=found)
