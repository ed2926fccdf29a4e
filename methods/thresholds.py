"""Thresholds in place of top-k: one for each layer or one for all (paper, section 3.1, Figure 4).

The distribution of the scores is counted in bins that no data moves: the upper 16 bits of the
float32 pattern, put into the order of the numbers. Memory is the same for any length of text,
counts of shards add up exactly, and no order of adding changes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 1 << 16
"""A bin is under 0.8 % wide; within it scores are taken to be spread evenly."""

SELECTORS = ("layer-threshold", "global-threshold")

_BINS, _COUNTS = "bins of ", "counts of "


@dataclass(slots=True)
class Histogram:
    """Counts of scores by layer, int64 [BINS] each, of one group of units."""

    counts: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, layer: int, scores: Tensor) -> None:
        """Count scores of any shape."""
        found = torch.bincount(_bins(scores.detach().reshape(-1)), minlength=BINS).cpu().numpy()
        self.counts[layer] = self.counts.get(layer, 0) + found

    def merge(self, other: Histogram) -> None:
        """Count what another histogram has counted."""
        for layer, counts in other.counts.items():
            self.counts[layer] = self.counts.get(layer, 0) + counts

    def arrays(self, group: str) -> dict[str, NDArray[Any]]:
        """The bins that any layer uses [used], and the counts [layers, used], by name."""
        table = np.stack([self.counts[layer] for layer in sorted(self.counts)])
        used = np.flatnonzero(table.any(axis=0))
        return {_BINS + group: used.astype(np.int32), _COUNTS + group: table[:, used]}


def check_finite(scores: Tensor) -> None:
    """Raise ValueError where a score is none, as top-k does: no threshold is above NaN."""
    if not bool(torch.isfinite(scores).all()):
        rows = scores.detach().reshape(-1, scores.shape[-1]).float()
        token, unit = (int(i) for i in (~torch.isfinite(rows)).nonzero()[0])
        text = f"the score of unit {unit} of token {token} is {float(rows[token, unit])}"
        raise ValueError(f"{text}; scores must be finite")


def _bins(scores: Tensor) -> Tensor:
    """Bins int64 of finite scores; a larger score never has a smaller bin."""
    bits = scores.float().contiguous().view(torch.int32).long()
    ordered = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))  # sign and magnitude to a number
    return (ordered >> 16) + BINS // 2


def bin_edges(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The smallest score of each bin: the inverse of the binning."""
    ordered = (bins - BINS // 2) << 16
    bits = np.where(ordered >= 0, ordered, 0x80000000 - ordered).astype(np.uint32)
    return bits.view(np.float32).astype(np.float64)


def threshold(bins: NDArray[np.int32], counts: NDArray[np.int64], share: float) -> float:
    """The t for which the share of all counted scores that are >= t is `share`.

    Inside a bin, t is interpolated. Where zeros alone fill more than what is left out, as after a
    ReLU, t is above zero: fewer than `share` are kept, and what is pruned costs no accuracy.
    """
    total = int(counts.sum())
    if share >= 1 or total == 0:
        return -np.inf
    if share <= 0:
        return np.inf
    above = np.cumsum(counts[::-1], dtype=np.int64)[::-1]  # scores in this bin or a higher one
    wanted = share * total
    index = int(np.searchsorted(-above, -wanted, side="right")) - 1  # last with above >= wanted
    low, high = bin_edges(np.array([bins[index], int(bins[index]) + 1], np.int64))
    inside = (float(above[index]) - wanted) / float(counts[index])
    found = np.float32(low + inside * (min(high, float(np.finfo(np.float32).max)) - low))
    rounded_down = inside > 0 and found == low
    return float(np.nextafter(found, np.float32(np.inf)) if rounded_down else found)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What calibration has counted of each group: bins [used] and their counts [layers, used]."""

    groups: Mapping[str, tuple[NDArray[np.int32], NDArray[np.int64]]]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Quantiles:
        """The counts among arrays that `Histogram.arrays` named."""
        groups = [name.removeprefix(_BINS) for name in arrays if name.startswith(_BINS)]
        return cls({g: (arrays[_BINS + g], arrays[_COUNTS + g]) for g in groups})

    def thresholds(self, selector: str, group: str, density: float) -> list[float]:
        """A threshold for each layer, at which `density` of the scores are kept.

        `layer-threshold` keeps that share in each layer, `global-threshold` in all together.
        """
        if selector not in SELECTORS:
            raise ValueError(f"selector {selector!r} has no threshold ({', '.join(SELECTORS)} do)")
        if group not in self.groups:
            raise ValueError(f"calibration has no scores of group {group!r}: {[*self.groups]}")
        bins, counts = self.groups[group]
        if selector == "global-threshold":
            return [threshold(bins, counts.sum(axis=0), density)] * len(counts)
        return [threshold(bins, layer, density) for layer in counts]


@dataclass(slots=True)
class ThresholdSelect:
    """select(layer, group, scores, share): the mask of scores >= t (SEMANTICS 3)."""

    quantiles: Quantiles
    selector: str
    _found: dict[tuple[str, float], list[float]] = field(default_factory=dict)

    def __call__(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        return self.mask(layer, group, scores, share).to(scores.dtype)

    def mask(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        """Bool mask [..., units]; a token may use no unit at all."""
        if (group, share) not in self._found:
            found = self.quantiles.thresholds(self.selector, group, share)
            self._found[group, share] = found
        return scores.detach() >= self._found[group, share][layer]
