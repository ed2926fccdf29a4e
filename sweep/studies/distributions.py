"""Spaces of a study as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from sweep.spec.spaces import DIGITS, Choices, Space, Span

ORDERED = ("tpe", "gp")
"""Samplers that learn from how far two numbers are apart."""


def distribution_of(space: Space, ordered: bool) -> BaseDistribution:
    """A space as Optuna has it. `ordered`: of numbers that are equally far apart, neighbours are
    known to be near."""
    if isinstance(space, Span):
        return FloatDistribution(space.low, space.high, log=space.log)
    if ordered and (step := _step(space.values)):
        return FloatDistribution(min(space.values), max(space.values), step=step)
    return CategoricalDistribution(space.values)


def is_ordered(space: Space) -> bool:
    """Whether a range of numbers is searched as such by samplers that are `ORDERED`."""
    return isinstance(space, Choices) and _step(space.values) > 0


def _step(values: Sequence[Any]) -> float:
    """How far neighbouring numbers are apart; 0 if they are names, one alone, or not equally."""
    if len(values) < 2 or not all(isinstance(v, int | float) for v in values):
        return 0.0
    steps = [b - a for a, b in pairwise(values)]
    even = all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    return round(steps[0], DIGITS) if even and steps[0] > 0 else 0.0


def nearest(distribution: FloatDistribution, value: float) -> float:
    """The nearest number that may be searched."""
    inside = min(max(value, distribution.low), distribution.high)
    if distribution.step is None:
        return inside
    return distribution.low + distribution.step * round(
        (inside - distribution.low) / distribution.step
    )
