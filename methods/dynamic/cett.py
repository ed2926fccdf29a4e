"""CETT: pruning neurons up to one relative error for all layers (Luo et al. 2024, Sparsing Law,
arXiv 2411.02335; Zhang et al. 2024, ReLU² wins, arXiv 2402.03804)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods.matrices import column_norms
from methods.shared import Shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.base import Select
    from methods.mlp import GatedMLP
    from methods.training import Arrays, Lesson


@dataclass(frozen=True)
class CETT(Shared):
    """Neurons whose abs(GLU(x)_i) ||W_down[:, i]|| is below a threshold of their layer are left
    out, as an oracle would: all are known before any weight is read.

    Thresholds are those at which every layer has the same CETT, the norm of what is left out over
    that of the output, in the mean over tokens of the calibration text. The density decides which:
    the CETT at which the mean share of neurons is the density.
    """

    shares: str = "cett"
    """cett: in each layer what one CETT for all leaves; or as of the other methods"""

    name: ClassVar[str] = "cett"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    selector: ClassVar[str] = "layer-threshold"
    oracle: ClassVar[bool] = True
    own_shares: ClassVar[tuple[str, ...]] = ("cett",)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        glu = mlp.glu(x)  # [..., intermediate]
        size = glu.abs().float() * column_norms(mlp, "down", order=2)  # of what each neuron adds
        mask = select("neuron", size, self.group_densities()["neuron"])
        return mlp.down(glu * mask.to(glu.dtype))

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        from methods import relative_error

        return relative_error.curves(model, lesson) if self.shares == "cett" else {}

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        from methods import relative_error

        return relative_error.summary(learnt) if learnt else {}

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        if self.shares != "cett":
            return super().with_state(arrays, device)
        from methods import relative_error

        shares = relative_error.shares(arrays, self.density)
        return replace(self, _table=tuple((share,) for share in shares))
