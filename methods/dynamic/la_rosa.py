"""La RoSA: top-k of rotated inputs (Liu et al. 2025, arXiv 2507.01299)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from methods.attending import NONE, SAME, _canonical
from methods.base import Method, MethodError, pruned
from methods.density import ATTENTION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.attention import Attention
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
    gets has no rotation, as the product before it allows none. Rotated weights may be quantised:
    the rotation comes first, and statistics are of rotated inputs.

    With `attention`, W_q, W_k and W_v have a Q of their own, h² weights more, and what W_o gets is
    turned inside of each head, which W_v and W_o absorb whole. Decided here: both of these groups
    have the share of attention, as how large they are beside each other depends on the model, where
    the source leaves out 0.8 s and 1.2 s of them.
    """

    attention: float | str = NONE
    """share of the weights of attention that a token uses: none leaves attention dense, same is the
    MLP's density, or a number"""
    _rotations: tuple[Tensor, ...] = ()
    _attention_rotations: tuple[Tensor, ...] = ()

    name: ClassVar[str] = "la-rosa"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")
    trained: ClassVar[Literal["", "once", "each density"]] = "once"
    rotates: ClassVar[bool] = True
    quantised_after: ClassVar[bool] = True
    """Whether weights are quantised as it has rotated them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", _canonical(self.attention, self.name))
        object.__setattr__(self, "groups", type(self).groups_with({"attention": self.attention}))
        super().__post_init__()

    @classmethod
    def groups_with(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        dense = parameters.get("attention", NONE) == NONE
        return cls.groups if dense else (*ATTENTION, *cls.groups)

    def group_densities(self) -> dict[str, float]:
        """0.8 s of the inputs are left out, and of W_down what makes the density; where that is
        more than all, the inputs give the rest."""
        sparsity = 1 - self.density
        down = min(1.0, (3 - 2 * INPUT_SPARSITY) * sparsity)
        mlp = {"input": 1 - (3 * sparsity - down) / 2, "intermediate": 1 - down}
        if self.attention == NONE:
            return mlp
        share = self.density if self.attention == SAME else float(self.attention)
        return dict.fromkeys(ATTENTION, share) | mlp

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        if not self._rotations:
            raise MethodError("la-rosa has no rotations yet: train it first")
        share = self.group_densities()
        rotated = x @ self._rotations[mlp.layer].to(x.dtype)  # Q^T x
        glu = mlp.glu(pruned(select, "input", rotated, share["input"]))  # W Q is in the place of W
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))

    def attention_input(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        if self.attention == NONE:
            return x
        if not self._attention_rotations:
            raise MethodError("la-rosa has no rotations of attention yet: train it first")
        rotated = x @ self._attention_rotations[attention.layer].to(x.dtype)
        return pruned(select, ATTENTION[0], rotated, self.group_densities()[ATTENTION[0]])

    def attention_output(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        if self.attention == NONE:
            return x
        return pruned(select, ATTENTION[1], x, self.group_densities()[ATTENTION[1]])

    def overhead_weights(self, hidden: int, intermediate: int) -> int:
        return hidden * hidden * (1 if self.attention == NONE else 2)

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-8192 // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """The share of the variance in the first half of the coordinates, by layer, and Q."""
        from methods import head_rotations, rotations

        result, arrays = rotations.train(model, lesson)
        return result, arrays | (
            {} if self.attention == NONE else head_rotations.found(model, lesson)
        )

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import head_rotations, rotations

        return replace(
            self,
            _rotations=rotations.load(_of_mlps(arrays), device),
            _attention_rotations=head_rotations.load(arrays, device),
        )

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        """Rotated weights, or what a quantiser has made of them."""
        from methods import head_rotations, rotations
        from methods.rounded import kept

        if quantised := kept(arrays):
            return quantised
        turned = rotations.rotated(model, _of_mlps(arrays))
        return turned | ({} if self.attention == NONE else head_rotations.rotated(model, arrays))


def _of_mlps(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    return {name: array for name, array in arrays.items() if name.endswith(".rotation")}
