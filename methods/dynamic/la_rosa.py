"""La RoSA: top-k of rotated inputs (Liu et al. 2025, arXiv 2507.01299)."""

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
    from methods.training import Lesson

INPUT_SPARSITY = 0.8
"""Of the sparsity s, what the inputs of W_gate and W_up have: 0.8 s, which leaves 1.4 s to W_down;
the source's 0.8 s and 1.2 s are means over attention too."""


@dataclass(frozen=True)
class LaRoSA(Method):
    """As dip on the rotated input Q^T x: W_gate Q and W_up Q have the columns, k of them a token.

    Q of a layer holds the eigenvectors of the covariance of its inputs on the calibration text. It
    is absorbed in W_gate and W_up, which the model has in their place; what brings the hidden state
    into its basis, h² weights a layer, is in DRAM (the source's residual adapters). What W_down
    gets has no rotation, as the product before it allows none.
    """

    _rotations: tuple[Tensor, ...] = ()

    name: ClassVar[str] = "la-rosa"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")
    trained: ClassVar[Literal["", "once", "each density"]] = "once"
    rotates: ClassVar[bool] = True

    def group_densities(self) -> dict[str, float]:
        """0.8 s of the inputs are left out, and of W_down what makes the density; where that is
        more than all, the inputs give the rest."""
        sparsity = 1 - self.density
        down = min(1.0, (3 - 2 * INPUT_SPARSITY) * sparsity)
        return {"input": 1 - (3 * sparsity - down) / 2, "intermediate": 1 - down}

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        if not self._rotations:
            raise MethodError("la-rosa has no rotations yet: train it first")
        share = self.group_densities()
        rotated = x @ self._rotations[mlp.layer].to(x.dtype)  # Q^T x
        glu = mlp.glu(pruned(select, "input", rotated, share["input"]))  # W Q is in the place of W
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))

    def overhead_weights(self, hidden: int, intermediate: int) -> int:
        return hidden * hidden

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-8192 // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """The share of the variance in the first half of the coordinates, by layer, and Q."""
        from methods import rotations

        return rotations.train(model, lesson)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import rotations

        return replace(self, _rotations=rotations.load(arrays, device))

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        from methods import rotations

        return rotations.rotated(model, arrays)
