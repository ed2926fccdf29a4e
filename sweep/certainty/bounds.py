"""What the windows so far say of one statistic of an evaluation: bounds that hold at every look.

A bound of a look is an end of the interval that the table has (`sweep.results.perplexity`), at the
level of that look. All of them hold together, so the narrowest that was seen stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweep.certainty.looks import LEAST, Levels
from sweep.results.perplexity import (
    Losses,
    delta_interval,
    mean_interval,
    ratio_interval,
    student_t,
)

HOPE = 2
"""Of how many times the windows that there are a candidate may need all, as it looks, and still get
more: an estimate from few windows is far off."""
Ends = Callable[[int, float], tuple[float, float]]
"""ends(windows, confidence): the interval from so many of the first windows."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a statistic lies, and after how many windows that was known."""

    estimate: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    windows: int = 0
    ended: bool = False
    """Whether there is no further look, or no evidence to look at."""


UNSEEN = Bounds(ended=True)
"""Of what there is no evidence of."""
MANY_WINDOWS = 1_000_000
"""More windows than anyone has: such a choice is too near its budget."""


def known(low: float, high: float | None = None) -> Bounds:
    """Bounds of what no window can tell more of."""
    high = low if high is None else high
    return Bounds((low + high) / 2, low, high, 0, True)


def bounds(
    estimate: float, ends: Ends, looks: Sequence[int], levels: Sequence[Levels], seen: int
) -> Bounds:
    """After the first `seen` of the planned looks."""
    low, high = -math.inf, math.inf
    for count, level in zip(looks[:seen], levels[:seen], strict=True):
        if count < LEAST:
            continue
        below, above = ends(count, 1 - 2 * level.beyond)[0], ends(count, 1 - 2 * level.within)[1]
        low = max(low, below) if below == below else low
        high = min(high, above) if above == above else high
    return Bounds(estimate, low, high, looks[seen - 1] if seen else 0, seen == len(looks))


def windows_needed(
    bounds: Bounds, ends: Ends, limit: float, level: Levels, most: float = MANY_WINDOWS
) -> float:
    """How many windows bring a bound to the side of the limit on which the estimate is, if estimate
    and spread stay as they are, at the level of one look; infinite where `most` do not."""
    inside = bounds.estimate <= limit
    confidence = 1 - 2 * (level.within if inside else level.beyond)
    below, above = ends(bounds.windows, confidence)
    half = above - bounds.estimate if inside else bounds.estimate - below
    margin = abs(limit - bounds.estimate)
    if not (bounds.windows >= 2 and margin > 0 and 0 <= half < math.inf):
        return math.inf
    spread = half * math.sqrt(bounds.windows) / student_t(bounds.windows - 1, confidence)
    low, high = bounds.windows, most
    if _too_wide(int(high), spread, margin, confidence):
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if _too_wide(int(middle), spread, margin, confidence):
            low = middle
        else:
            high = middle
    return high


def has_hope(
    bounds: Bounds, ends: Ends, limit: float, levels: Sequence[Levels], looks: Sequence[int]
) -> bool:
    """Whether windows that are left may tell on which side of the limit it is: as it looks, `HOPE`
    times as many as there are would."""
    if bounds.ended:
        return False
    if bounds.windows < LEAST:
        return True
    most = HOPE * looks[-1]
    return windows_needed(bounds, ends, limit, levels[-1], most) <= most


def _too_wide(windows: int, spread: float, margin: float, confidence: float) -> bool:
    return student_t(windows - 1, confidence) * spread > margin * math.sqrt(windows)


# -- intervals of statistics -----------------------------------------------------------------


def first(losses: Losses, windows: int) -> Losses:
    """The first windows of an evaluation."""
    return Losses(losses.nll[:windows], losses.predicted[:windows])


def ratio_ends(losses: Losses, dense: Losses) -> Ends:
    """Of the share by which perplexity is above dense perplexity."""

    def ends(windows: int, confidence: float) -> tuple[float, float]:
        low, high = ratio_interval(first(losses, windows), first(dense, windows), confidence)
        return low - 1, high - 1

    return ends


def delta_ends(losses: Losses, dense: Losses) -> Ends:
    """Of perplexity less dense perplexity."""
    return lambda windows, confidence: delta_interval(
        first(losses, windows), first(dense, windows), confidence
    )


def mean_ends(sums: Losses) -> Ends:
    """Of a mean that is never below 0."""
    return lambda windows, confidence: mean_interval(first(sums, windows), confidence)


def accuracy_ends(lost: int, gained: int, documents: int, level: float) -> tuple[float, float]:
    """Of the accuracy that is lost: so many documents of all are, and so many are gained.

    One-sided ends, each at the level, of two exact binomial bounds (Clopper and Pearson) that share
    it: of few documents none may differ, and a spread of zero would say too much.
    """
    of_lost, of_gained = (_share_ends(n, documents, level / 2) for n in (lost, gained))
    return of_lost[0] - of_gained[1], of_lost[1] - of_gained[0]


def _share_ends(count: int, of: int, level: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    low = float(betaincinv(count, of - count + 1, level)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - level)) if count < of else 1.0
    return low, high
