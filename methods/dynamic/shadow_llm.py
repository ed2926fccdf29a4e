"""ShadowLLM: one predictor for the whole model (Akhauri et al. 2024, arXiv 2406.16635)."""

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

BUDGETS = ("layer", "global")


@dataclass(frozen=True)
class ShadowLLM(Method):
    """Neurons of all layers that one network, at the first layer, predicts to matter little.

    It learns from abs(A ∂L/∂A) with A = GLU(x) (the source's `plainact`), which of each layer's
    neurons are the largest 10 %. Decided here, where the source has several: it reads the input of
    the first MLP, which is known before any weight of an MLP is needed. `budget` layer keeps the
    same number in every layer; global keeps the largest of all layers together.
    """

    width: int = 512
    """hidden units of the network"""
    tokens: int = 8192
    """of the calibration text that it learns from"""
    epochs: int = 10
    """passes over them"""
    budget: str = "layer"
    """layer: the same number of neurons in every layer; global: of each token, over all layers"""
    _net: nn.Module | None = None

    name: ClassVar[str] = "shadow-llm"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    trained: ClassVar[Literal["", "once", "each density"]] = "once"

    @classmethod
    def selector_with(cls, parameters: Mapping[str, Any]) -> str:
        return GIVEN if parameters.get("budget") == "global" else cls.selector

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        for name in ("width", "tokens", "epochs"):
            value = parameters.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise MethodError(f"{name} {value!r} of shadow-llm: a whole number above 0")
        budget = parameters.get("budget", "layer")
        if budget not in BUDGETS:
            raise MethodError(f"budget {budget!r} of shadow-llm: layer or global is expected")
        return super().reach(parameters)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        notes = mlp.passing.notes
        if not mlp.layer or "scores" not in notes:  # the first MLP of a pass
            notes["scores"] = self._scores(mlp, x)
        scores = notes["scores"][..., mlp.layer, :]  # [..., intermediate]
        return mlp.down(mlp.glu(x) * select("neuron", scores, self.density).to(x.dtype))

    def _scores(self, mlp: GatedMLP, x: Tensor) -> Tensor:
        """[..., layers, intermediate], positive; with a global budget 1 where a neuron is used."""
        from methods.select import topk

        if self._net is None:
            raise MethodError("shadow-llm has no predictor yet: train it first")
        odds = self._net(x.float()).clamp(-80, 80).exp()
        if self.budget == "global":
            odds = topk(mlp.layer, "neuron", odds, self.density)
        return odds.unflatten(-1, (-1, mlp.intermediate))

    def model_weights(self, hidden: int, intermediate: int, layers: int) -> int:
        return self.width * (hidden + layers * intermediate)

    def training_windows(self, window_tokens: int) -> int:
        return max(2, -(-self.tokens // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """Recall of the neurons that matter, by layer, and the network."""
        from methods import shadow

        return shadow.train(model, lesson, self.width, self.epochs)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import shadow

        return replace(self, _net=shadow.load(arrays, device))

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        """None of the model's. Raises MethodError for a net of a model of another size."""
        from methods.fitting import check_predictor
        from methods.mlp import gated_mlps

        units, layers = len(arrays["2.bias"]), len(gated_mlps(model))
        check_predictor(self.name, model, arrays["0.weight"].shape[1], units // layers)
        return {}
