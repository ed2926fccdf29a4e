"""Predictive GLU pruning (Liu et al. 2023; paper, eq. 6 and Figure 5c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from methods.base import Method, MethodError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.training import Lesson


@dataclass(frozen=True)
class DejaVu(Method):
    """Neurons that a small network in each layer predicts to be small in abs(GLU(x)) are left out.

    Its predictors, h -> `width` -> m, are trained on `tokens` of the calibration text in at most
    `epochs`; they are always in DRAM, and their bytes are overhead.
    """

    width: int = 1000
    tokens: int = 32768
    epochs: int = 20
    _predictors: tuple[nn.Module, ...] = ()

    name: ClassVar[str] = "dejavu"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    trained: ClassVar[Literal["", "once", "each density"]] = "once"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        for name in ("width", "tokens", "epochs"):
            value = parameters.get(name, 1)
            if not isinstance(value, int) or value < 1:
                raise MethodError(f"{name} {value!r} of dejavu: a whole number above 0 is expected")
        return super().reach(parameters)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        odds = self.odds(mlp.layer, x)  # [..., intermediate]
        return mlp.down(mlp.glu(x) * select("neuron", odds, self.density).to(x.dtype))

    def odds(self, layer: int, x: Tensor) -> Tensor:
        """exp(pred(x)): in the order of the logits, and positive, so that a cache can weigh it."""
        if not self._predictors:
            raise MethodError("dejavu has no predictors yet: train it first")
        return self._predictors[layer](x.float()).clamp(-80, 80).exp()

    def overhead_weights(self, hidden: int, intermediate: int) -> int:
        return self.width * (hidden + intermediate)

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-self.tokens // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods.predictors import train

        return train(model, lesson, self.width, self.epochs)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods.predictors import load

        return replace(self, _predictors=load(arrays, device))

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        """None of the model's. Raises MethodError for predictors of a model of another size."""
        from methods.fitting import check_predictor

        layers = sum(name.endswith(".0.weight") for name in arrays)
        hidden, units = arrays["0.0.weight"].shape[1], len(arrays["0.2.bias"])
        check_predictor(self.name, model, hidden, units, layers)
        return {}
