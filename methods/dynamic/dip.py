"""Dynamic Input Pruning (paper, section 4, eq. 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from methods import allocation, layers
from methods.base import Method, MethodError, pruned

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP


@dataclass(frozen=True)
class DIP(Method):
    """Dynamic Input Pruning: small inputs of W_up and W_gate, then small abs(GLU~(x)).

    `allocation` splits the density: `paper` by the published fit (Figure 12), `uniform` equally, or
    by a fit of one's own: {slope, intercept}, or the name of a JSON file with these.
    `layers` gives each layer a density of its own, as text; their mean is `density`.
    """

    allocation: str = "paper"
    layers: str = ""

    name: ClassVar[str] = "dip"
    groups: ClassVar[tuple[str, ...]] = ("input", "intermediate")

    def __post_init__(self) -> None:
        object.__setattr__(self, "allocation", allocation.canonical(self.allocation))
        super().__post_init__()
        object.__setattr__(self, "layers", layers.canonical(self.layers, self.density))

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        allocation.parse(parameters.get("allocation", "paper"))
        return super().reach(parameters)

    def parameters(self) -> dict[str, Any]:
        """Without `layers` where all are alike, so that results of before it are found."""
        return {k: v for k, v in super().parameters().items() if k != "layers" or v}

    def group_densities(self) -> dict[str, float]:
        d_in = allocation.parse(self.allocation).input_density(self.density)
        return {"input": d_in, "intermediate": max(0.0, 3 * self.density - 2 * d_in)}

    def at(self, layer: int) -> Self:
        own = layers.parse(self.layers)
        if not own:
            return self
        if layer >= len(own):
            raise MethodError(f"{len(own)} densities are given, and layer {layer} has none")
        return replace(self, density=own[layer], layers="")

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        share = self.group_densities()
        x = pruned(select, "input", x, share["input"])  # eq. 7
        glu = mlp.glu(x)  # GLU~(x): from the pruned W_up and W_gate
        return mlp.down(pruned(select, "intermediate", glu, share["intermediate"]))  # eq. 8
