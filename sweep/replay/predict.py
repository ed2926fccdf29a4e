"""What a stopwatch should show: seconds of planned reads by three models of the same disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from simulator.read_cost import ReadCost
from sweep.errors import ResourceError
from sweep.probe import fit

NOISY = 0.3
"""Spread of probes of one size, over their median, from which on nothing can be measured."""


@dataclass(frozen=True, slots=True)
class Models:
    """What probes of a disk say of it, at one number of reads in flight."""

    gbps: float
    """The best throughput of any size: the paper's Flash."""
    affine: ReadCost
    curve: ReadCost
    spread: float
    """Of the probes of a size between rounds, (largest - smallest) / median: over all sizes the
    median."""

    @property
    def noisy(self) -> bool:
        return self.spread > NOISY

    def seconds(self, lengths: NDArray[np.int64]) -> dict[str, float]:
        """Of all these reads together, by model."""
        total = float(lengths.sum())
        sizes, counts = np.unique(lengths, return_counts=True)
        by_cost = {
            name: float((cost(sizes) * counts).sum())
            for name, cost in (("affine", self.affine), ("curve", self.curve))
        }
        return {"paper": total / (self.gbps * 1e9), **by_cost}


def models(rounds: Sequence[Mapping[int, float]]) -> Models:
    """From rounds of probes, each seconds of a read by its bytes; the median of all rounds counts.

    Raises ResourceError where no curve comes of them.
    """
    sizes = sorted(rounds[0])
    seconds = [median(one[size] for one in rounds) for size in sizes]
    kept = fit.increasing(seconds)
    points = tuple((sizes[i], sizes[i] / seconds[i] / 1e9) for i in kept)
    if len(points) < 2:
        raise ResourceError("probes of this disk make no curve: larger reads take no longer here")
    curve = fit.Curve(1, points)
    law = fit.affine(curve)
    spreads = [
        (max(of_size) - min(of_size)) / middle
        for size, middle in zip(sizes, seconds, strict=True)
        for of_size in [[one[size] for one in rounds]]
    ]
    return Models(
        gbps=max(gbps for _, gbps in points),
        affine=ReadCost(latency_us=law.latency_us, gbps=law.gbps),
        curve=ReadCost.table(points),
        spread=median(spreads),
    )
