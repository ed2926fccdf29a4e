"""What a quantiser is, and the names of those that there are."""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.base import MethodError
from methods.names import QUANTISERS

if TYPE_CHECKING:
    from torch import Tensor

Statistic = Literal["nothing", "norms", "moments"]
"""What a change of the weights must know of a layer's inputs X [tokens, columns]: nothing, the
squares of the columns' norms [columns], or the second moments X'X [columns, columns]."""


@dataclass(frozen=True)
class Quantiser(ABC):
    """Simulated quantisation: float weights that `bits + 16 / group_size` bits could hold.

    `group_size` is the number of weights that share 16 bits of scale (or as much of a codebook).
    """

    bits: int = 4
    group_size: int = 128

    name: ClassVar[str]
    allowed_bits: ClassVar[tuple[int, ...]]
    needs: ClassVar[Statistic] = "nothing"
    random: ClassVar[bool] = False
    """Whether the seed can change the result."""
    calibration_windows: int = 0
    """Windows of the calibration text to take the statistic from, if there are as many."""

    @property
    def on_the_way(self) -> bool:
        """Whether SparseGPT can round with this while it prunes."""
        return False

    @property
    def embedding_bits(self) -> int:
        """Bits that embedding and head are rounded to; 0 if they are left as they are."""
        return 0

    def quantised_embedding(self, weight: Tensor) -> Tensor:
        """An embedding or head [rows, columns], rounded to `embedding_bits`."""
        raise MethodError(f"{self.name} leaves embedding and head as they are")

    def __post_init__(self) -> None:
        if self.bits not in self.allowed_bits:
            allowed = ", ".join(map(str, self.allowed_bits))
            raise MethodError(f"{self.name} has no {self.bits!r} bits (it has: {allowed})")
        whole = isinstance(self.group_size, int) and not isinstance(self.group_size, bool)
        if not whole or self.group_size < 1:
            raise MethodError(
                f"group_size {self.group_size!r} of {self.name} is not a whole number of at least 1"
            )
        check_calibration(self.name, self.needs, self.calibration_windows)
        check_damping(self.name, getattr(self, "damping", 1))

    def parameters(self) -> dict[str, Any]:
        """Parameters besides bits and group size."""
        return {name: getattr(self, name) for name in parameter_names(self.name)}

    @abstractmethod
    def quantised(self, weight: Tensor, statistic: Tensor | None, seed: int) -> Tensor:
        """The weight [rows, columns] with values that the format has; `statistic` as `needs`."""


def check_calibration(name: str, needs: Statistic, windows: Any) -> None:
    """Raise MethodError for a number of calibration windows that is none."""
    whole = isinstance(windows, int) and not isinstance(windows, bool)
    if needs != "nothing" and not (whole and windows >= 1):
        raise MethodError(
            f"calibration_windows {windows!r} of {name} is not a whole number of at least 1"
        )


def check_damping(name: str, damping: Any) -> None:
    """Raise MethodError for a share of the mean second moment that cannot be added."""
    if isinstance(damping, bool) or not isinstance(damping, int | float) or not 0 < damping <= 1:
        raise MethodError(f"damping {damping!r} of {name} is not above 0 and up to 1")


def names() -> tuple[str, ...]:
    """All quantisers."""
    return tuple(QUANTISERS)


def quantiser_class(name: str) -> type[Quantiser]:
    """The class behind a name; MethodError with the nearest name otherwise."""
    try:
        module, _, attribute = QUANTISERS[name].partition(":")
    except (KeyError, TypeError):
        near = difflib.get_close_matches(str(name), QUANTISERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(QUANTISERS)
        raise MethodError(f"unknown quantisation {name!r}{hint} (known: {known})") from None
    return getattr(import_module(module), attribute)


def parameter_names(name: str) -> tuple[str, ...]:
    """Parameters that the quantiser takes besides bits and group size."""
    fields = dataclasses.fields(quantiser_class(name))
    names = [f.name for f in fields if f.name not in ("bits", "group_size")]
    uses_data = quantiser_class(name).needs != "nothing"
    return tuple(n for n in names if uses_data or n != "calibration_windows")


def create(name: str, bits: float, group_size: int, parameters: Mapping[str, Any]) -> Quantiser:
    """The quantiser `name`.

    Raises MethodError for a name, a number of bits or a parameter that does not exist.
    """
    known = parameter_names(name)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        text = ", ".join(known) or "none"
        raise MethodError(f"quantisation {name} has no parameter {unknown[0]!r} (it has: {text})")
    whole = int(bits) if bits == int(bits) else bits
    return quantiser_class(name)(bits=whole, group_size=group_size, **parameters)  # type: ignore[arg-type]
