"""DSnoT: masks that are refined without training (Zhang et al. 2023, arXiv 2310.08915)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.static.learnt import LearntPruning, check_amount, check_choice, check_count
from methods.static.pruning import BLOCKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.static.inputs import Inputs
    from methods.static.swaps import Swaps
    from methods.training import Lesson

STARTS = ("wanda", "sparsegpt", "magnitude")
DAMPING = 0.01


@dataclass(frozen=True)
class DSnoT(LearntPruning):
    """A mask of wanda, sparsegpt or magnitude whose rows swap weights until errors cancel out.

    With S_j the sum of input j over a window, in the mean over windows, D_ij = W_ij S_j is what
    weight j gives to output i. The error of a row is what pruning takes from it,

        e_i = sum of D_ij over pruned j,

    and as long as abs(e_i) > threshold, at most `max_cycles` times, a row

        grows the pruned j with D_ij of the sign of e_i and the largest abs(D_ij) / var_j,
        prunes the kept j with D_ij of the other sign and the lowest abs(W_ij) ||x_j||,
        e_i <- e_i - D_grown + D_pruned.

    n:m swaps inside a block. Weights that are kept do not change, and each row keeps as many as
    before. All three matrices of an MLP are refined, which released code leaves out unless told.

    Where the source leaves something open: a row ends when it has no such pair, where released code
    would go on with a weight of the wrong sign or kept anyway; the mask of sparsegpt is by W_ij^2 /
    U_jj^2 without its update of weights, as released. `code` differs in three ways: var_j is the
    variance inside windows, not over all tokens; a weight is swapped once at most; and n:m prunes
    the weight of the block with the lowest score of the start, whatever its sign, and ends before
    e_i would change its sign.
    """

    start: str = "wanda"
    """the mask that it starts from: wanda, sparsegpt or magnitude, row by row"""
    max_cycles: int = 50
    """swaps of a row, at most"""
    threshold: float = 0.1
    """error of a row, summed over a window, at which it is left alone"""

    name: ClassVar[str] = "dsnot"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        check_choice(cls.name, "start", parameters.get("start", "wanda"), STARTS)
        check_count(cls.name, "max_cycles", parameters.get("max_cycles", 1))
        check_amount(cls.name, "threshold", parameters.get("threshold", 0))
        return super().reach(parameters)

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods.static.swaps import refine

        return refine(self, model, lesson)

    def scores(self, weight: Tensor, inputs: Inputs) -> Tensor:
        """Scores [rows, columns] whose largest of each row, or block, the start keeps."""
        if self.start == "magnitude":
            return weight.abs()
        if self.start == "wanda":
            return weight.abs() * inputs.squares.sqrt()
        from methods.static.propagation import inverse_factor

        assert inputs.moments is not None
        return weight.square() / inverse_factor(inputs.moments, DAMPING).diagonal().square()

    def variance(self, inputs: Inputs) -> Tensor:
        """var_j [columns]."""
        if self.variant == "code":
            return inputs.within / inputs.tokens
        return (inputs.squares / inputs.tokens - (inputs.sums / inputs.tokens).square()).clamp_min(
            0
        )

    def mask(self, weight: Tensor, inputs: Inputs) -> tuple[Tensor, Swaps]:
        """The refined mask [rows, columns], and how it came about."""
        from methods.static.pattern import of_blocks, of_rows
        from methods.static.swaps import swapped

        weight, block = weight.double(), BLOCKS[self.pattern]
        scores = self.scores(weight, inputs)
        start = of_blocks(scores, self.pattern) if block else of_rows(scores, self.density)
        given = weight * (inputs.sums / inputs.windows)  # D
        growth = given.abs() / self.variance(inputs).clamp_min(1e-30)
        released = self.variant == "code"
        cost = scores if block and released else weight.abs() * inputs.squares.sqrt()
        return swapped(
            start,
            given,
            growth,
            cost,
            cycles=self.max_cycles,
            threshold=self.threshold,
            width=block[1] if block else None,
            once=released,
            any_sign=bool(block and released),
        )
