"""FFN-SkipLLM: whole MLPs are skipped where they change little (Jaiswal et al. 2024, arXiv
2404.03865)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from methods.base import GIVEN, Method, MethodError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.training import Lesson

SIMILARITIES = ("block", "ffn-output")


@dataclass(frozen=True)
class FFNSkip(Method):
    """A token whose hidden state a layer leaves nearly as it was skips the MLPs of the next layers.

    Where cos(hidden state before the layer, after it) is at least a threshold, the next `skips`
    MLPs are left out, all three matrices of them; the `cold` first and last layers never are, and a
    layer whose MLP was skipped starts none. The threshold is the one at which, on the calibration
    text, the MLPs that are left make the density. `similarity` ffn-output holds the hidden state
    against the bare output of the MLP, as a public re-implementation does, which finds no
    saturation. The first tokens of an answer, which the source keeps dense, are the sweep's
    `dense_tokens`.
    """

    skips: int = 2
    """MLPs that are skipped after a layer that changes little"""
    cold: int = 2
    """layers at each end that are never skipped"""
    similarity: str = "block"
    """block: hidden states before and after a layer; ffn-output: before it, and its MLP's output"""
    _threshold: float | None = None
    _layers: int = 0

    name: ClassVar[str] = "ffn-skip"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    selector: ClassVar[str] = GIVEN
    trained: ClassVar[Literal["", "once", "each density"]] = "each density"
    reads_blocks: ClassVar[bool] = True

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        for name, least in (("skips", 1), ("cold", 0)):
            value = parameters.get(name, 2)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise MethodError(f"{name} {value!r} of ffn-skip: a whole number from {least} on")
        similarity = parameters.get("similarity", "block")
        if similarity not in SIMILARITIES:
            known = " or ".join(SIMILARITIES)
            raise MethodError(f"similarity {similarity!r} of ffn-skip: {known} is expected")
        return super().reach(parameters)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        notes, hidden = mlp.passing.notes, mlp.passing.block_input
        skipped = x[..., 0] != x[..., 0]  # [..., tokens], nowhere
        if hidden is not None:
            left = self._left(mlp, hidden)
            skipped = (left > 0) & (self.cold <= mlp.layer < self._layers - self.cold)
            notes |= {"left": left - skipped.long(), "computed": ~skipped, "before": hidden}
        used = (~skipped).to(x.dtype)[..., None].expand(*x.shape[:-1], mlp.intermediate)
        out = mlp.down(mlp.glu(x) * select("neuron", used, self.density).to(x.dtype))
        notes["output"] = out
        return out

    def _left(self, mlp: GatedMLP, hidden: Tensor) -> Tensor:
        """How many of the next MLPs each token skips, [..., tokens], as `hidden` comes in."""
        from methods.skipping import cosine

        notes = mlp.passing.notes
        left = notes.get("left")
        if left is None:
            left = (hidden[..., 0] * 0).long()
        if mlp.layer - 1 < self.cold or "before" not in notes:
            return left
        if self._threshold is None:
            raise MethodError("ffn-skip has no threshold yet: train it first")
        after = hidden if self.similarity == "block" else notes["output"]
        still = cosine(notes["before"], after) >= self._threshold
        return left.masked_fill(still & notes["computed"], self.skips)

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-2048 // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """The threshold, the share of skipped MLPs by layer, and both cosines by layer."""
        from methods import skipping

        return skipping.train(model, self, lesson)

    def at_threshold(self, threshold: float, layers: int) -> Self:
        """The method with its threshold, for a model of so many layers."""
        return replace(self, _threshold=threshold, _layers=layers)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        return self.at_threshold(float(arrays["threshold"]), int(arrays["layers"]))
