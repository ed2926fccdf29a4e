"""SCAP: statistical calibrated activation pruning (Chua et al. 2024, arXiv 2412.07174)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods.base import MethodError, pruned
from methods.matrices import raw_gate_up
from methods.shared import Shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.modes import Shifts
    from methods.training import Arrays, Lesson

MODES = ("layer", "unit")


@dataclass(frozen=True)
class SCAP(Shared):
    """Inputs that are near to the most frequent value of theirs count as that value: columns of
    W_gate and W_up, and of W_down, are left out where abs(x_j - mode) is small.

    What the mode itself adds, W mode, is a bias, so it costs h + 2 m resident numbers a layer. The
    source gives matrices targets of their own, as 30 % for W_gate and W_up and 70 % for W_down:
    `shares`. Modes are those of the dense model on the calibration text.
    """

    mode: str = "layer"
    """layer: one mode for all inputs of a matrix in a layer; unit: one for each input"""
    _shifts: tuple[Shifts, ...] = ()

    name: ClassVar[str] = "scap"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")
    selector: ClassVar[str] = "layer-threshold"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        mode = parameters.get("mode", "layer")
        if mode not in MODES:
            raise MethodError(f"mode {mode!r} of scap: {' or '.join(MODES)} is expected")
        return super().reach(parameters)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        if not self._shifts:
            raise MethodError("scap has no modes yet: calibrate it first")
        share, of = self.group_densities(), self._shifts[mlp.layer].to(x)
        gate, up = raw_gate_up(mlp, pruned(select, "input", x - of.x_mode, share["input"]))
        glu = mlp.act(gate + of.gate_bias) * (up + of.up_bias)  # biases are W_gate mode, W_up mode
        z = pruned(select, "intermediate", glu - of.glu_mode, share["intermediate"])
        return mlp.down(z) + of.down_bias

    def resident_numbers(self, hidden: int, intermediate: int, attention_width: int = 0) -> int:
        modes = hidden + intermediate if self.mode == "unit" else 2
        return modes + hidden + 2 * intermediate

    def learns(self) -> bool:
        return True

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        from methods import modes

        return modes.learn(model, lesson, by_unit=self.mode == "unit")

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        from methods import modes

        return modes.summary(learnt)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        from methods import modes

        ready = super().with_state(arrays, device)
        return replace(ready, _shifts=modes.load(arrays, device))
