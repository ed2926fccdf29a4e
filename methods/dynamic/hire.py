"""HiRE: candidates by a cheap copy, then the exact largest of them (Samaga et al. 2024, arXiv
2402.09360)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from methods.base import Method, MethodError, pruned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.scorers import Scorer
    from methods.training import Lesson

SCORERS = ("low-rank", "low-bit")


@dataclass(frozen=True)
class HiRE(Method):
    """Rows of W_up and W_gate are left out whose abs(GLU(x)) a cheap copy of them finds small, then
    columns of W_down by the exact abs(GLU(x)) of the rows that are left.

    k' = `ratio` k of m rows are candidates and k columns are kept, so D = (2 k' + k) / 3 m; where
    k' would pass m, it is m. The source trains its models for a k of some 5 %; here the model is as
    it is, and the copy a better predictor, which is in DRAM.
    """

    ratio: float = 2.0
    """candidates over units that are kept"""
    scorer: str = "low-rank"
    """low-rank: U V, as near to W_up and W_gate as scorer_rank allows; low-bit: both rounded to
    scorer_bits"""
    scorer_rank: int = 64
    scorer_bits: int = 2
    _scorers: tuple[Scorer, ...] = ()

    name: ClassVar[str] = "hire"
    groups: ClassVar[tuple[str, ...]] = ("glu-neuron", "intermediate")
    trained: ClassVar[Literal["", "once", "each density"]] = "once"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        ratio, scorer = parameters.get("ratio", 2.0), parameters.get("scorer", "low-rank")
        if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not ratio >= 1:
            raise MethodError(f"ratio {ratio!r} of hire: a number of at least 1 is expected")
        if scorer not in SCORERS:
            raise MethodError(f"scorer {scorer!r} of hire: {' or '.join(SCORERS)} is expected")
        for name, most in (("scorer_rank", 10**6), ("scorer_bits", 8)):
            value = parameters.get(name, 2)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise MethodError(f"{name} {value!r} of hire: a whole number from 1 to {most}")
        return super().reach(parameters)

    def group_densities(self) -> dict[str, float]:
        kept = 3 * self.density / (2 * self.ratio + 1)
        if kept * self.ratio <= 1:
            return {"glu-neuron": self.ratio * kept, "intermediate": kept}
        return {"glu-neuron": 1.0, "intermediate": max(0.0, 3 * self.density - 2)}

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        if not self._scorers:
            raise MethodError("hire has no scorers yet: train it first")
        share = self.group_densities()
        guess = self._scorers[mlp.layer](mlp, x).abs()  # [..., intermediate]
        glu = mlp.glu(x) * select("glu-neuron", guess, share["glu-neuron"]).to(x.dtype)
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))

    def resident_numbers(self, hidden: int, intermediate: int, attention_width: int = 0) -> int:
        """Of 16 bits: U and V, or two matrices of `scorer_bits` with a scale for each row."""
        if self.scorer == "low-rank":
            return 2 * min(self.scorer_rank, hidden, intermediate) * (hidden + intermediate)
        return -(-2 * intermediate * (hidden * self.scorer_bits + 16) // 16)

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-2048 // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """Recall@k of k' candidates by layer, and the scorer."""
        from methods import scorers

        rank = self.scorer_rank if self.scorer == "low-rank" else 0
        return scorers.train(model, lesson, rank, self.scorer_bits, self.ratio)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import scorers

        return replace(self, _scorers=scorers.load(arrays, device))
