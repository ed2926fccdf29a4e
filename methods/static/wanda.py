"""Wanda: pruning by weights and activations (Sun et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.density import kept_units
from methods.static.pruning import StaticPruning
from methods.static.quantiser import Statistic

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Wanda(StaticPruning):
    """In each row the smallest abs(W_ij) * norm(X_j) become zero; kept weights do not change."""

    calibration_windows: int = 128

    name: ClassVar[str] = "wanda"
    needs: ClassVar[Statistic] = "norms"

    def _kept(self, rows: int, columns: int) -> int:
        return rows * kept_units(self.density, columns)

    def pruned(self, weight: Tensor, statistic: Tensor | None) -> Tensor:
        from methods.static.pattern import of_blocks, of_rows

        assert statistic is not None
        scores = weight.abs() * statistic.sqrt()
        if self.pattern == "unstructured":
            return weight * of_rows(scores, self.density)
        return weight * of_blocks(scores, self.pattern)
