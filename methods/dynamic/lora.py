"""Methods with LoRA adapters that are fused into the weights (paper, eq. 9 and section 6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.base import Method, MethodError
from methods.dynamic.cats import CATS
from methods.dynamic.dip import DIP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.training import Lesson

_COUNTS = ("rank", "steps", "batch")


@dataclass(frozen=True)
class Adapted(Method):
    """A method on weights W + BA, trained so that the pruned model gives the dense one's logits.

    The masks select columns of W + BA, so nothing of A and B is left to store. Trained for `steps`
    of `batch` windows of the calibration text.
    """

    rank: int = 32
    steps: int = 1000
    batch: int = 1
    learning_rate: float = 2e-4

    adapts: ClassVar[tuple[str, ...]] = ()
    """The projections that get an adapter, of gate, up and down."""
    trained: ClassVar[Literal["", "once", "each density"]] = "each density"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        for name in _COUNTS:
            value = parameters.get(name, 1)
            if not isinstance(value, int) or value < 1:
                raise MethodError(
                    f"{name} {value!r} of {cls.name}: a whole number above 0 is expected"
                )
        rate = parameters.get("learning_rate", 1.0)
        if not isinstance(rate, int | float) or not rate > 0:
            raise MethodError(f"learning_rate {rate!r} of {cls.name}: a number above 0 is expected")
        return super().reach(parameters)

    def training_windows(self, window_tokens: int) -> int:
        """All that the steps can use, and a tenth as many to validate on."""
        return max(2, -(-self.steps * self.batch * 10 // 9))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods.distil import distil

        return distil(model, self, lesson)

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        from methods.distil import fused

        return fused(model, arrays)


@dataclass(frozen=True)
class DIPLoRA(Adapted, DIP):
    """Dynamic Input Pruning with fused LoRA adapters on W_up, W_gate and W_down."""

    name: ClassVar[str] = "dip+lora"
    adapts: ClassVar[tuple[str, ...]] = ("gate", "up", "down")
    calibrated_as: ClassVar[str] = "dip"


@dataclass(frozen=True)
class CATSLoRA(Adapted, CATS):
    """CATS with fused LoRA adapters on W_up and W_down; its thresholds stay those of CATS."""

    name: ClassVar[str] = "cats+lora"
    adapts: ClassVar[tuple[str, ...]] = ("up", "down")
    calibrated_as: ClassVar[str] = "cats"
