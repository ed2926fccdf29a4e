"""Perplexity and its difference to the dense run, from the loss of each window.

Intervals are of what the whole text would give: the windows are taken as drawn from it one by one.
With n_w predicted tokens, loss a_w of the one model and b_w of the other in window w,

    d = log(PPL_a / PPL_b) = Σ (a_w - b_w) / Σ n_w,    d ± t · se(d)

with Student's t of W - 1 degrees of freedom and the spread of the windows' own residuals. Windows
are whole, so that tokens of one window may depend on each other as they like, and both models see
the same ones: what is hard about a window cancels. Ends are farther than that in two cases, as
else an interval of few windows holds the truth less often than it says (`benchmarks coverage`):

- Differences are skewed: most windows lose a little, a few much. The end to which these windows are
  skewed goes out by Cornish and Fisher's μ₃ (1 + 2t²) / (6 s² W), by half of the width at most.
- A difference of perplexities is exp(level) · (exp(d) - 1), as uncertain of the level as windows
  differ. Its spread is that of the linearised sum, and the end away from zero goes out for the bend
  of the exponential.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Floats = NDArray[np.float64]
Interval = tuple[float, float]
UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Losses:
    """Summed negative log-likelihood and number of predicted tokens of each window."""

    nll: Floats
    predicted: Floats

    @property
    def mean(self) -> float:
        """Loss of a predicted token."""
        return float(self.nll.sum() / self.predicted.sum())

    @property
    def perplexity(self) -> float:
        """exp(sum of NLL / sum of predicted tokens), SEMANTICS 6."""
        return _exp(self.mean)

    def influences(self) -> Floats:
        """How much each window moves the mean loss, [windows]; they add up to 0."""
        return (self.nll - self.mean * self.predicted) / self.predicted.sum()


def _exp(mean_nll: float) -> float:
    return math.exp(mean_nll) if mean_nll < 700 else math.inf


def ratio_interval(losses: Losses, dense: Losses, confidence: float = CONFIDENCE) -> Interval:
    """Interval (of 95 %) of perplexity over dense perplexity, from differences of the same windows.

    (nan, nan) with fewer than two windows.
    """
    below, above = _reach(losses.influences() - dense.influences(), confidence)
    difference = losses.mean - dense.mean
    return _ends(difference - below, difference + above, _exp)


def delta_interval(losses: Losses, dense: Losses, confidence: float = CONFIDENCE) -> Interval:
    """Interval (of 95 %) of perplexity less dense perplexity, from differences of the same windows.

    It is as sure of the level of the dense perplexity as these windows are; within a budget that is
    a share of that level, `ratio_interval` is what to ask. (nan, nan) with fewer than two windows.
    """
    return _of_sum([(1, losses), (-1, dense)], confidence)


def mean_interval(sums: Losses, confidence: float = CONFIDENCE) -> Interval:
    """Interval (of 95 %) of a mean over predicted tokens that is never below 0, as a distance to
    the dense run is. (nan, nan) with fewer than two windows."""
    below, above = _reach(sums.influences(), confidence)
    low, high = _ends(sums.mean - below, sums.mean + above)
    return (max(0.0, low), high) if low == low else UNKNOWN


def change_interval(
    old: Losses, new: Losses, old_dense: Losses | None = None, new_dense: Losses | None = None
) -> Interval:
    """95 % interval of new less old perplexity, from differences of the same windows.

    With both dense runs it is that of the change of ΔPPL. (nan, nan) with fewer than two windows.
    """
    terms = [(1, new), (-1, old)]
    if old_dense is not None and new_dense is not None:
        terms += [(-1, new_dense), (1, old_dense)]
    return _of_sum(terms)


def _of_sum(terms: list[tuple[int, Losses]], confidence: float = CONFIDENCE) -> Interval:
    """Of a sum of perplexities with these signs, on the same windows."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = sum(sign * losses.perplexity for sign, losses in terms)
        moved = [sign * losses.perplexity * losses.influences() for sign, losses in terms]
        influences = np.sum(moved, axis=0)
        below, above = _reach(influences, confidence)
        level = _half(terms[0][1].influences(), confidence)
        bend = _half(influences, confidence) * min(1.0, level / 2)
    if total > 0:
        above += bend
    else:
        below += bend
    return _ends(total - below, total + above)


def _ends(low: float, high: float, of: Callable[[float], float] = float) -> Interval:
    return UNKNOWN if math.isnan(low) or math.isnan(high) else (of(low), of(high))


def _half(influences: Floats, confidence: float = CONFIDENCE) -> float:
    """t · se of a sum that windows move by `influences`, [windows]."""
    windows = len(influences)
    if windows < 2:
        return math.nan
    spread = math.sqrt(float((influences**2).sum()) * windows / (windows - 1))
    return student_t(windows - 1, confidence) * spread


def _reach(influences: Floats, confidence: float = CONFIDENCE) -> Interval:
    """How far the interval of a sum goes below and above it."""
    windows, half = len(influences), _half(influences, confidence)
    squares = float((influences**2).sum())
    if windows < 3 or not squares > 0:
        return half, half
    cubes = float((influences**3).sum()) * windows / (windows - 2)
    skewed = cubes / (6 * squares) * (1 + 2 * student_t(windows - 1, confidence) ** 2)
    return half + min(max(-skewed, 0.0), half / 2), half + min(max(skewed, 0.0), half / 2)


@cache
def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))
