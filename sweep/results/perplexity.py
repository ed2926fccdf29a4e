"""Perplexity and its difference to the dense run, from the loss of each window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """Summed negative log-likelihood and number of predicted tokens of each window."""

    nll: Floats
    predicted: Floats

    @property
    def perplexity(self) -> float:
        """exp(sum of NLL / sum of predicted tokens), SEMANTICS 6."""
        return _exp(float(self.nll.sum() / self.predicted.sum()))


def _exp(mean_nll: float) -> float:
    return math.exp(mean_nll) if mean_nll < 700 else math.inf


def delta_interval(losses: Losses, dense: Losses, seed: int) -> tuple[float, float]:
    """95 % interval of perplexity minus dense perplexity, by paired bootstrap over windows.

    Both models see the same resampled windows. (nan, nan) with fewer than two windows.
    """
    windows = len(losses.nll)
    if windows < 2:
        return math.nan, math.nan
    weights = _resamples(windows, seed)
    with np.errstate(over="ignore"):
        deltas = _perplexities(losses, weights) - _perplexities(dense, weights)
    low, high = np.percentile(deltas, [2.5, 97.5])
    return float(low), float(high)


def change_interval(
    old: Losses,
    new: Losses,
    old_dense: Losses | None = None,
    new_dense: Losses | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of new less old perplexity by paired bootstrap over the same windows.

    With both dense runs it is that of the change of ΔPPL. (nan, nan) with fewer than two windows.
    """
    windows = len(old.nll)
    if windows < 2:
        return math.nan, math.nan
    weights = _resamples(windows, seed)
    with np.errstate(over="ignore", invalid="ignore"):
        change = _perplexities(new, weights) - _perplexities(old, weights)
        if old_dense is not None and new_dense is not None:
            change -= _perplexities(new_dense, weights) - _perplexities(old_dense, weights)
    low, high = np.percentile(change, [2.5, 97.5])
    return float(low), float(high)


def _perplexities(losses: Losses, weights: Floats) -> Floats:
    return np.exp((weights @ losses.nll) / (weights @ losses.predicted))


@cache
def _resamples(windows: int, seed: int) -> Floats:
    """How often each resample draws each window, [RESAMPLES, windows]."""
    generator = np.random.default_rng(seed)
    equal = np.full(windows, 1 / windows)
    return generator.multinomial(windows, equal, size=RESAMPLES).astype(np.float64)
