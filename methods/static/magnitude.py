"""Magnitude pruning: the baseline of static pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.static.pruning import StaticPruning

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Magnitude(StaticPruning):
    """The smallest abs(W) of each MLP matrix become zero; needs no data."""

    name: ClassVar[str] = "magnitude"

    def pruned(self, weight: Tensor, statistic: Tensor | None) -> Tensor:
        from methods.static.pattern import of_blocks, of_matrix

        scores = weight.abs()
        if self.pattern == "unstructured":
            return weight * of_matrix(scores, self.kept(*scores.shape))
        return weight * of_blocks(scores, self.pattern)
