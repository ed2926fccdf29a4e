"""WAS: weight-aware activation sparsity (EMNLP 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import MethodError
from methods.dynamic.weighed import Weighed
from methods.matrices import column_norms

if TYPE_CHECKING:
    from torch import Tensor

    from methods.attention import Attention
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class WAS(Weighed):
    """As teal with the score abs(x_j) ||W[:, j]||_1^exponent, by thresholds.

    The source searches the shares of blocks by TPE and splits them inside a block by TEAL's search:
    that is `shares: tpe` (`methods.block_search`); greedy is its second half.
    """

    exponent: float = 1.0
    """power of the norm of a column; 1 is the source's, 0 leaves abs(x) alone, as teal does"""

    name: ClassVar[str] = "was"
    selector: ClassVar[str] = "layer-threshold"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        exponent = parameters.get("exponent", 1.0)
        number = isinstance(exponent, int | float) and not isinstance(exponent, bool)
        if not number or not 0 <= exponent <= 4:
            raise MethodError(f"exponent {exponent!r} of was: a number from 0 to 4 is expected")
        return super().reach(parameters)

    def attention_norms(self, attention: Attention, group: str) -> Tensor:
        return attention.column_norms(group, order=1) ** self.exponent

    def norms(self, mlp: GatedMLP, matrix: str) -> Tensor:
        return column_norms(mlp, matrix, order=1) ** self.exponent
