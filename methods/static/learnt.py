"""Static pruning that learns which weights to keep: a training task makes its weights."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from methods.base import MethodError
from methods.density import kept_units
from methods.static.pruning import StaticPruning
from methods.static.quantiser import Statistic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.training import Lesson

VARIANTS = ("paper", "code")


@dataclass(frozen=True)
class LearntPruning(StaticPruning):
    """Pruning whose `train` makes the new MLP weights, which then take the place of the model's.

    `train` hands over weights [rows, columns] by parameter name, and beside its findings the share
    of the MLP weights that is kept, `mlp_density`. Each row of a matrix keeps equally many.
    """

    variant: str = "paper"
    """paper: as written; code: as released, where that differs"""

    calibration_windows: int = 128
    """Windows of the calibration text that statistics are taken from, if there are as many."""

    needs: ClassVar[Statistic] = "norms"
    trained: ClassVar[Literal["", "once", "each density"]] = "each density"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        check_choice(cls.name, "variant", parameters.get("variant", "paper"), VARIANTS)
        return super().reach(parameters)

    def _kept(self, rows: int, columns: int) -> int:
        return rows * kept_units(self.density, columns)

    def training_windows(self, window_tokens: int) -> int:
        return self.calibration_windows

    @abstractmethod
    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """The share of weights that is kept and what else was found; the new weights by name."""

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        return {name: _tensor(array) for name, array in arrays.items()}

    def pruned(self, weight: Tensor, statistic: Tensor | None) -> Tensor:
        raise MethodError(f"{self.name} prunes whole models, in its training")


def check_choice(method: str, parameter: str, given: Any, known: tuple[str, ...]) -> None:
    """Raise MethodError for a choice that there is not."""
    if given not in known:
        choices = " or ".join(known)
        raise MethodError(f"{parameter} {given!r} of {method}: {choices} is expected")


def check_count(method: str, parameter: str, given: Any) -> None:
    """Raise MethodError for what is no whole number above 0."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise MethodError(f"{parameter} {given!r} of {method}: a whole number above 0 is expected")


def check_amount(method: str, parameter: str, given: Any) -> None:
    """Raise MethodError for what is no number of at least 0."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not given >= 0:
        raise MethodError(f"{parameter} {given!r} of {method}: a number of at least 0 is expected")


def _tensor(array: NDArray[Any]) -> Tensor:
    """The array's own memory as a tensor, which nothing writes to; uint16 holds bfloat16."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # shared memory may be read-only
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
