"""CETT: pruning neurons up to one relative error for all layers (Luo et al. 2024, Sparsing Law,
arXiv 2411.02335; Zhang et al. 2024, ReLU² wins, arXiv 2402.03804)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods.base import MethodError
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
    the CETT at which the mean share of neurons is the density. In its place may be given the rise
    of perplexity on the calibration text, PPL-p %, or the CETT itself; the density is then what
    comes of it, and none is asked for (`methods.cett_search`).
    """

    shares: str = "cett"
    """cett: in each layer what one CETT for all leaves; or as of the other methods"""
    ppl_percent: float = 0.0
    """by how many per cent perplexity on the calibration text may rise (PPL-p %), in place of a
    density; 0 asks for a density"""
    cett: float = 0.0
    """the CETT itself, as 0.2, in place of a density; 0 asks for a density"""

    name: ClassVar[str] = "cett"
    groups: ClassVar[tuple[str, ...]] = ("neuron",)
    selector: ClassVar[str] = "layer-threshold"
    oracle: ClassVar[bool] = True
    own_shares: ClassVar[tuple[str, ...]] = ("cett",)
    not_scoring: ClassVar[tuple[str, ...]] = ("ppl_percent", "cett")

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        percent, cett = (_target(parameters, name) for name in cls.not_scoring)
        if percent and cett:
            raise MethodError("ppl_percent and cett are two ways to say one thing; give one")
        if cett >= 1:
            raise MethodError(f"cett {cett:g} of cett: below 1 is expected")
        if not (percent or cett):
            return super().reach(parameters)
        if parameters.get("shares", "cett") != "cett":
            raise MethodError("shares of cett: ppl_percent and cett say what they are")
        return 1.0, 1.0

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        glu = mlp.glu(x)  # [..., intermediate]
        size = glu.abs().float() * column_norms(mlp, "down", order=2)  # of what each neuron adds
        mask = select("neuron", size, self.group_densities()["neuron"])
        return mlp.down(glu * mask.to(glu.dtype))

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        from methods import relative_error

        return relative_error.curves(model, lesson) if self.shares == "cett" else {}

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        if not (self.ppl_percent or self.cett):
            return super().train(model, lesson)
        from methods import cett_search

        whole = CETT(shares="uniform")  # prunes what the search selects
        return cett_search.search(model, whole, lesson, self.ppl_percent, self.cett)

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        from methods import relative_error

        return relative_error.summary(learnt) if learnt else {}

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        if self.shares != "cett":
            return super().with_state(arrays, device)
        if self.ppl_percent or self.cett:
            from methods.cett_search import KEPT

            return replace(self, _table=tuple((float(share),) for share in arrays[KEPT]))
        from methods import relative_error

        shares = relative_error.shares(arrays, self.density)
        return replace(self, _table=tuple((share,) for share in shares))


def _target(parameters: Mapping[str, Any], name: str) -> float:
    value = parameters.get(name, 0.0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1e4:
        raise MethodError(f"{name} {value!r} of cett: a number from 0 on is expected")
    return float(value)
