"""When a point is clearly inside or outside a budget, from the windows that were evaluated so far.

A budget of ΔPPL ≤ x is a bound on a mean over windows: with d_w the loss per token of window w
minus that of the dense run of the same window,

    PPL - PPL_dense <= x    <=>    mean of d_w over all W windows <= log(1 + x / PPL_dense).

The windows are a finite set, so after n of them the mean of all lies within

    mean_n ± t · s / √n · √(1 - n/W)

with 99 % confidence, and at n = W it is known. Differences vary far less between windows than
losses do. Their spread grows with their size, so s is the larger of the point's own standard
deviation and of the relative spread seen in all points so far, at the size of the difference or of
the limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["inside", "outside", "open"]
Floats = NDArray[np.float64]

_T = (63.66, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012)
"""Student's t for 1, 2, … degrees of freedom, two-sided at 99 %."""
_T_MORE = ((14, 2.977), (16, 2.921), (20, 2.845), (30, 2.750), (60, 2.660), (120, 2.617))
_T_NORMAL = 2.576


def student_t(freedom: int) -> float:
    """The t of a 99 % interval; between two entries of the table the larger one."""
    if freedom < 1:
        return math.inf
    if freedom <= len(_T):
        return _T[freedom - 1]
    values = [t for at, t in _T_MORE if at <= freedom]
    return values[-1] if values else _T[-1]


def differences(nll: Sequence[float], dense: Sequence[float], predicted: Sequence[float]) -> Floats:
    """Loss per predicted token of each window minus that of the dense run, [windows]."""
    return (np.asarray(nll, dtype=np.float64) - np.asarray(dense)) / np.asarray(predicted)


def limit_of_mean(budget: float, ppl_dense: float) -> float:
    """The bound on the mean difference that a perplexity budget is."""
    return math.log1p(budget / ppl_dense)


@dataclass(slots=True)
class Noise:
    """Relative spread of differences between windows, pooled over points."""

    squares: float = 0.0
    freedom: int = 0

    def add(self, per_window: Floats, floor: float) -> None:
        """Learn from a point; its size counts as at least `floor`."""
        if len(per_window) > 1:
            size = max(abs(float(per_window.mean())), floor)
            self.squares += float(((per_window - per_window.mean()) ** 2).sum()) / size**2
            self.freedom += len(per_window) - 1

    def copy(self) -> Noise:
        return Noise(self.squares, self.freedom)

    @property
    def share(self) -> float:
        """Standard deviation over size; infinite before two windows of one point were seen."""
        return math.sqrt(self.squares / self.freedom) if self.freedom else math.inf


def interval(per_window: Floats, total: int, limit: float, noise: Noise) -> tuple[float, float]:
    """Where the mean difference over all `total` windows lies, from the first ones.

    `noise` has learned from other points, and from this one.
    """
    count = len(per_window)
    mean = float(per_window.mean())
    if count >= total:
        return mean, mean
    if not noise.freedom:
        return -math.inf, math.inf
    deviation = float(per_window.std(ddof=1)) if count > 1 else 0.0
    spread = max(deviation, noise.share * max(abs(mean), limit))
    left = math.sqrt(1 - count / total)
    half = student_t(noise.freedom) * spread / math.sqrt(count) * left
    return mean - half, mean + half


def verdict(low: float, high: float, limit: float) -> Verdict:
    """Whether an interval is within a limit, beyond it, or neither."""
    if high <= limit:
        return "inside"
    return "outside" if low > limit else "open"


def rungs(shards: int) -> list[int]:
    """After how many shards a point is looked at: 1, 2, 4, … and all."""
    steps = [2**i for i in range(shards.bit_length()) if 2**i < shards]
    return [*steps, shards]
