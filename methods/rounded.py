"""Quantised weights among the arrays of a training, beside what it learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from methods.apply import _tensor, weight_array

MARK = "rounded:"
"""What the name of a parameter has before it."""


def named(weights: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Weights by parameter name as arrays of a training."""
    return {f"{MARK}{name}": weight_array(weight) for name, weight in weights.items()}


def kept(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """These weights again, by parameter name; none where nothing was quantised."""
    ours = ((name, array) for name, array in arrays.items() if name.startswith(MARK))
    return {name.removeprefix(MARK): _tensor(array) for name, array in ours}
