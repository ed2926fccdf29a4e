"""SparseGPT: pruning with the errors carried on (Frantar & Alistarh 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import MethodError
from methods.static.gptq import GPTQ
from methods.static.pruning import BLOCKS, StaticPruning
from methods.static.quantiser import Quantiser, Statistic, check_damping

if TYPE_CHECKING:
    from torch import Tensor

    from methods.static.propagation import Settle

BLOCK = 128
"""Columns among which the weights to prune are chosen together."""


@dataclass(frozen=True)
class SparseGPT(StaticPruning):
    """Weights of least W_ij^2 / U_jj^2 become zero; columns to the right make up for the error.

    `unstructured` chooses among 128 columns of all rows, n:m among m neighbours of a row, from what
    the weights are when the first of these columns is reached. With `gptq` kept weights are rounded
    on the way, as its section 3.5 does.
    """

    damping: float = 0.01
    calibration_windows: int = 128

    name: ClassVar[str] = "sparsegpt"
    needs: ClassVar[Statistic] = "moments"
    updates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_damping(self.name, self.damping)

    def pruned(
        self, weight: Tensor, statistic: Tensor | None, quantiser: Quantiser | None = None
    ) -> Tensor:
        from methods.static.propagation import inverse_factor, propagated

        assert statistic is not None
        block = BLOCKS[self.pattern]
        if block and weight.shape[1] % block[1]:
            text = f"pattern {self.pattern} does not fit a matrix of {weight.shape[1]} columns"
            raise MethodError(text)
        factor = inverse_factor(statistic, self.damping).to(weight.dtype)
        if quantiser is None:
            return propagated(weight, factor, self._zeroing(factor.diagonal()), block=BLOCK)
        if not (isinstance(quantiser, GPTQ) and quantiser.on_the_way):
            raise MethodError("sparsegpt rounds on the way with gptq alone, without act_order")
        rounding, zeroing = quantiser.rounding(), self._zeroing(factor.diagonal())
        size = math.lcm(BLOCK, quantiser.group_size)  # whole groups, whole choices
        return propagated(
            weight, factor, lambda j, rest: (zeroing(j, rest) != 0) * rounding(j, rest), block=size
        )

    def _zeroing(self, diagonal: Tensor) -> Settle:
        """Settles one column after the other, with a new choice at the start of each block."""
        from methods.static.pattern import of_blocks, of_matrix

        block = BLOCKS[self.pattern]
        width = block[1] if block else BLOCK
        mask: Tensor | None = None  # [rows, width]

        def settle(column: int, rest: Tensor) -> Tensor:
            nonlocal mask
            if column % width == 0:
                chosen = rest[:, :width]
                u = diagonal[column : column + chosen.shape[1]]
                scores = (chosen / u).square()
                if block:
                    mask = of_blocks(scores, self.pattern)
                else:
                    mask = of_matrix(scores, self._kept_here(column, *chosen.shape))
            assert mask is not None
            return rest[:, :1] * mask[:, column % width, None]

        return settle

    def _kept_here(self, column: int, rows: int, width: int) -> int:
        """Weights to keep in this block, so that all blocks so far have the density exactly."""
        before = self.kept(rows, column) if column else 0
        return self.kept(rows, column + width) - before
