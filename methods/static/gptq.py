"""GPTQ: rounding with the errors carried on (Frantar et al. 2022). The paper's "BQ"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.static.quantiser import Quantiser, Statistic

if TYPE_CHECKING:
    from torch import Tensor

    from methods.static.propagation import Settle


@dataclass(frozen=True)
class GPTQ(Quantiser):
    """Columns are rounded to their group's grid; those to the right make up for the error.

    A group's scale is taken when its first column is reached, from what its weights are then.
    `act_order` takes the columns by falling second moment; scales are then those of the unchanged
    groups. `damping` is the share of the mean second moment that is added to every column's.
    """

    act_order: bool = False
    damping: float = 0.01
    calibration_windows: int = 128

    name: ClassVar[str] = "gptq"
    allowed_bits: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)
    needs: ClassVar[Statistic] = "moments"

    def quantised(self, weight: Tensor, statistic: Tensor | None, seed: int) -> Tensor:
        from methods.static.propagation import inverse_factor, propagated

        assert statistic is not None
        if self.act_order:
            order = statistic.diagonal().argsort(descending=True, stable=True)
            factor = inverse_factor(statistic[order][:, order], self.damping)
            settle = self._in_order(weight, order)
            return propagated(weight[:, order], factor, settle)[:, order.argsort()]
        factor = inverse_factor(statistic, self.damping)
        return propagated(weight, factor, self.rounding(), block=self.block)

    @property
    def on_the_way(self) -> bool:
        return not self.act_order

    @property
    def block(self) -> int:
        """Columns of a block: whole groups, 128 columns or one group."""
        return max(self.group_size, 128 // self.group_size * self.group_size)

    def rounding(self) -> Settle:
        """Settles one column after the other, with a new scale at the start of each group."""
        from methods.static.uniform import nearest, scales

        scale: Tensor | None = None  # [rows, 1]

        def settle(column: int, rest: Tensor) -> Tensor:
            nonlocal scale
            if column % self.group_size == 0:
                scale = scales(rest[:, : self.group_size], self.bits)
            assert scale is not None
            return nearest(rest[:, :1], scale, self.bits)

        return settle

    def _in_order(self, weight: Tensor, order: Tensor) -> Settle:
        from methods.static.uniform import nearest, scales

        of_group = [scales(group, self.bits) for group in weight.split(self.group_size, dim=1)]
        group_of = (order // self.group_size).tolist()
        return lambda column, rest: nearest(rest[:, :1], of_group[group_of[column]], self.bits)
