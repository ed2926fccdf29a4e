"""R-Sparse: a low-rank branch for the inputs that are left out (Zhang et al. 2025, ICLR)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods.base import MethodError
from methods.matrices import column_norms, gate_of, raw_gate_up
from methods.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.low_rank import Branch
    from methods.mlp import GatedMLP
    from methods.training import Arrays, Lesson


@dataclass(frozen=True)
class RSparse(Shared):
    """W x = W (x where it is kept) + U V (x where it is left out), with U V the best approximation
    of W of a low rank; columns of W are left out where abs(x_j) is small.

    The density counts the sparse branch alone. U and V of every matrix are always read: rank times
    (inputs + outputs) resident numbers each. The source splits a budget between the branches by an
    evolutionary search for each matrix; here `branch_rank` is the same for all, and shares that are
    searched for are searched with the branches at work.
    """

    branch_rank: int = 32
    """rank of the branch that takes the inputs that are left out; 0 is teal"""
    scaled: bool = False
    """whether abs(x_j) is weighed by the norm of row j of V Sigma over all singular values, which
    is that of column j of W"""
    _branches: tuple[Mapping[str, Branch], ...] = ()

    name: ClassVar[str] = "r-sparse"
    groups: ClassVar[tuple[str, ...]] = ("gate-input", "up-input", "intermediate")
    selector: ClassVar[str] = "layer-threshold"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        rank = parameters.get("branch_rank", 1)
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
            raise MethodError(f"branch_rank {rank!r} of r-sparse: a whole number is expected")
        return super().reach(parameters)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        gate = self._product(mlp, "gate", x, select, lambda kept: gate_of(mlp, kept))
        up = self._product(mlp, "up", x, select, lambda kept: raw_gate_up(mlp, kept)[1])
        glu = mlp.act(gate) * up  # of both branches
        return self._product(mlp, "down", glu, select, mlp.down)

    def _product(
        self,
        mlp: GatedMLP,
        matrix: str,
        x: Tensor,
        select: Select,
        times: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """W x of both branches, with the bias."""
        group = "intermediate" if matrix == "down" else f"{matrix}-input"
        scores = x.abs()
        if self.scaled:
            scores = scores.float() * column_norms(mlp, matrix, order=2)
        kept = x * select(group, scores, self.group_densities()[group]).to(x.dtype)
        if not self.branch_rank:
            return times(kept)
        if not self._branches:
            raise MethodError("r-sparse has no branches yet: train it first")
        return times(kept) + self._branches[mlp.layer][matrix](x - kept)

    def resident_numbers(self, hidden: int, intermediate: int, attention_width: int = 0) -> int:
        norms = 2 * hidden + intermediate if self.scaled else 0
        rank = min(self.branch_rank, hidden, intermediate)
        return norms + 3 * rank * (hidden + intermediate)

    def learns(self) -> bool:
        return self.branch_rank > 0 or super().learns()

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        from methods import low_rank

        matrices = ("gate", "up", "down")
        return low_rank.learn(model, lesson, matrices, self.branch_rank) if self.branch_rank else {}

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        from methods import low_rank

        return low_rank.summary(learnt) if learnt else {}

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import low_rank

        ready = super().with_state(arrays, device)
        if not self.branch_rank:
            return ready
        return replace(ready, _branches=low_rank.load(arrays, device))
