"""Checks of what the public functions are given: one clear error each, never a wrong number."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import SimulatorError

_REAL: tuple[type[Any], ...] = (int, float, np.floating)


def whole(name: str, value: object, low: int, high: int | None = None, why: str = "") -> int:
    """`value` as an int; SimulatorError if it is none or out of range."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise SimulatorError(f"{name} is {value!r}; it must be a whole number") from None
    if number < low or (high is not None and number > high):
        limit = f"at least {low}" if high is None else f"between {low} and {high}"
        raise SimulatorError(f"{name} is {number}; it must be {limit}{why}")
    return number


def order_of_units(start: ArrayLike | None, units: int) -> NDArray[np.uint32] | None:
    """`start` as uint32 `[units]`; SimulatorError unless it is a permutation of the units."""
    if start is None:
        return None
    order = np.asarray(start)
    whole_numbers = order.ndim == 1 and np.issubdtype(order.dtype, np.integer)
    if not whole_numbers or order.size != units or not _permutation(order):
        raise SimulatorError(
            f"start must hold each unit 0 to {units - 1} once, most valuable first; "
            f"got {order.dtype} of shape {order.shape}"
        )
    return order.astype(np.uint32)


def _permutation(order: NDArray[np.integer]) -> bool:
    return bool((np.sort(order) == np.arange(order.size)).all())


def scores_of(values: ArrayLike, dims: Sequence[int] = (2,)) -> NDArray[np.float32]:
    """`values` as contiguous float32; SimulatorError for another type or shape."""
    scores = np.asarray(values)
    if scores.dtype != np.float32:
        raise SimulatorError(f"scores are {scores.dtype}; they must be float32")
    if scores.ndim not in dims or scores.shape[-1] < 1:
        raise SimulatorError(f"scores have shape {scores.shape}; they must be [tokens, units]")
    return np.ascontiguousarray(scores)


def gamma_of(gamma: Any) -> float:
    """`gamma` as a float; SimulatorError unless it is in (0, 1]."""
    if not isinstance(gamma, _REAL) or not 0 < gamma <= 1:
        raise SimulatorError(f"gamma is {gamma!r}; it must be above 0 and at most 1")
    return float(gamma)
