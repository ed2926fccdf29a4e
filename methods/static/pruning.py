"""What static pruning is: MLP weights that are zero for every token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import Method, MethodError
from methods.density import kept_units
from methods.static.quantiser import Statistic, check_calibration

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP

BLOCKS: Mapping[str, tuple[int, int] | None] = {"unstructured": None, "2:4": (2, 4), "4:8": (4, 8)}
"""Patterns; n:m keeps n weights of every m neighbours in a row."""
_MASK_BITS = {"unstructured": 1.0, "2:4": 3 / 4, "4:8": 7 / 8}


@dataclass(frozen=True)
class StaticPruning(Method):
    """Zeros in the three matrices of every MLP; the kept weights are read by every token.

    The MLP itself runs as if it were dense. `mask_bits` of each MLP weight say which are kept: 1
    for `unstructured`; for n:m the least whole number that tells all patterns of a block apart, 3
    bits for the 6 of 2:4 and 7 bits for the 70 of 4:8.
    """

    pattern: str = "unstructured"
    calibration_windows: int = 0
    """Windows of the calibration text to take the statistic from, if there are as many."""

    groups: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[Statistic] = "nothing"
    updates: ClassVar[bool] = False
    """Whether kept weights change; if not, quantised ones stay in their format."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_calibration(self.name, self.needs, self.calibration_windows)

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        uses_data = cls.needs != "nothing"
        names = super().parameter_names()
        return tuple(name for name in names if uses_data or name != "calibration_windows")

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        pattern = parameters.get("pattern", "unstructured")
        if pattern not in BLOCKS:
            known = ", ".join(BLOCKS)
            raise MethodError(f"unknown pattern {pattern!r} of {cls.name} (known: {known})")
        block = BLOCKS[pattern]
        return (0.0, 1.0) if block is None else (block[0] / block[1], block[0] / block[1])

    def group_densities(self) -> dict[str, float]:
        return {}

    @property
    def mask_bits(self) -> float:
        """Bits for each MLP weight that the mask takes; none at density 1."""
        return _MASK_BITS[self.pattern] if self.density < 1 else 0.0

    def kept(self, rows: int, columns: int) -> int:
        """Weights that a matrix keeps, exactly; rounding may bring some of these to 0 too."""
        block = BLOCKS[self.pattern]
        return rows * columns * block[0] // block[1] if block else self._kept(rows, columns)

    def _kept(self, rows: int, columns: int) -> int:
        return kept_units(self.density, rows * columns)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        return mlp.down(mlp.glu(x))

    @abstractmethod
    def pruned(self, weight: Tensor, statistic: Tensor | None) -> Tensor:
        """The weight [rows, columns] with zeros; `statistic` of its inputs is as `needs` says."""
