"""What a method is: scores, the groups that they gate, and the density of each group."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.density import group_density, reachable_density

if TYPE_CHECKING:
    from torch import Tensor

    from methods.mlp import GatedMLP

    Select = Callable[[str, Tensor, float], Tensor]
    """select(group, scores [..., units], density of the group) -> mask [..., units] of 0 and 1."""


class MethodError(ValueError):
    """A method, parameter or density that does not exist; the message says what does."""


@dataclass(frozen=True)
class Method(ABC):
    """A dynamic sparsity method at one MLP density.

    A subclass names itself and the weight groups that it prunes, and writes `forward` as its
    equation. It calls `select` once for each group, in the order of `groups`, and knows neither
    which selector answers nor that caches exist.
    """

    density: float = 1.0

    name: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        low, high = type(self).reach(self.parameters())
        inside = low < self.density <= high if low == 0 else low - 1e-9 <= self.density <= high
        if not inside:
            bound = f"above 0 and up to {high:g}" if low == 0 else f"{low:.4g} to {high:g}"
            raise MethodError(
                f"density {self.density!r} is out of reach of {self.name}: reachable is {bound}"
            )

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        """Smallest (exclusive where it is 0) and largest MLP density of the method."""
        return reachable_density(cls.groups)

    def parameters(self) -> dict[str, Any]:
        """The method's own parameters, without the density."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if f.name != "density"}

    def group_densities(self) -> dict[str, float]:
        """Density of each pruned group, so that the MLP as a whole has `density`."""
        (group,) = self.groups
        return {group: group_density(group, self.density)}

    @abstractmethod
    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        """The sparse MLP of eq. 3 for x [..., hidden]; returns [..., hidden]."""
