"""From rows to what a device says: a curve for each depth, and the affine law with its errors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.probe.grid import DIRECT, RANDOM, size_text
from sweep.probe.validity import Row

SAME = 0.03
"""Depths whose throughput is within this share of the best are as good; the least is taken."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Throughput by read size at one depth: (bytes, GB/s), sizes and times of a read increasing."""

    depth: int
    points: tuple[tuple[int, float], ...]
    dropped: tuple[str, ...] = ()
    """Rows that were left out, each with the reason."""
    reads_per_s: float = 0.0
    """The most reads a second of any size."""


@dataclass(frozen=True, slots=True)
class Affine:
    """A read of s bytes takes latency_us + s / gbps; `errors` are relative, by size."""

    depth: int
    latency_us: float
    gbps: float
    errors: tuple[tuple[int, float], ...]

    @property
    def worst(self) -> tuple[int, float]:
        """The size with the largest relative error, and that error with its sign."""
        return max(self.errors, key=lambda error: abs(error[1]))

    def seconds(self, size: float) -> float:
        return self.latency_us / 1e6 + size / self.gbps / 1e9


def curves(rows: Sequence[Row]) -> list[Curve]:
    """A curve for each depth that has two valid rows of random direct reads or more."""
    by_depth: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.valid and row.mode == DIRECT and row.pattern == RANDOM:
            by_depth[row.depth].append(row)
    made = (_curve(depth, of_depth) for depth, of_depth in sorted(by_depth.items()))
    return [curve for curve in made if len(curve.points) > 1]


def _curve(depth: int, rows: list[Row]) -> Curve:
    rows = sorted(rows, key=lambda row: row.size)
    speeds = [figure(row.gbps) for row in rows]  # as written, so that the file's times increase
    kept = increasing([row.size / gbps for row, gbps in zip(rows, speeds, strict=True)])
    dropped = tuple(
        f"depth {depth}, {size_text(row.size)}: a larger read would take less time"
        for place, row in enumerate(rows)
        if place not in kept
    )
    points = tuple((rows[place].size, speeds[place]) for place in kept)
    rates = [1e9 * gbps / size for size, gbps in points]
    return Curve(depth, points, dropped, max(rates))


def figure(value: float) -> float:
    """Four digits: no more were measured."""
    return float(f"{value:.4g}")


def increasing(times: Sequence[float]) -> list[int]:
    """Places of the longest run of strictly increasing values, gaps allowed; of several the one
    that ends lowest."""
    best: list[list[int]] = []
    for place, time in enumerate(times):
        before = [run for run in best if times[run[-1]] < time]
        best.append([*max(before, key=len, default=[]), place])
    return min(best, key=lambda run: (-len(run), times[run[-1]]), default=[])


def affine(curve: Curve) -> Affine:
    """The law with the least squared relative errors of the times; latency is never below 0."""
    sizes = np.array([size for size, _ in curve.points], float)
    times = np.array([size / gbps / 1e9 for size, gbps in curve.points])
    terms = np.stack([np.ones_like(sizes), sizes], 1) / times[:, None]
    latency, per_byte = np.linalg.lstsq(terms, np.ones_like(times), rcond=None)[0]
    if latency < 0:
        latency, per_byte = 0.0, float(terms[:, 1].sum() / (terms[:, 1] ** 2).sum())
    predicted = latency + sizes * per_byte
    errors = tuple(zip(sizes.astype(int).tolist(), (predicted / times - 1).tolist(), strict=True))
    return Affine(curve.depth, float(latency) * 1e6, float(1 / per_byte / 1e9), errors)


def best_depth(made: Sequence[Curve]) -> int:
    """The least depth whose throughput, as a geometric mean over the read sizes that all depths
    have, is within SAME of the best."""
    common = set.intersection(*({size for size, _ in curve.points} for curve in made))
    if not common:
        return max(made, key=lambda curve: max(gbps for _, gbps in curve.points)).depth
    means = {
        curve.depth: math.exp(
            math.fsum(math.log(gbps) for size, gbps in curve.points if size in common) / len(common)
        )
        for curve in made
    }
    top = max(means.values())
    return min(depth for depth, mean in means.items() if mean >= (1 - SAME) * top)


def most_gbps(rows: Sequence[Row]) -> float:
    """The largest valid direct throughput, of any pattern, in GB/s; 0 without any."""
    return max((row.gbps for row in rows if row.valid and row.mode == DIRECT), default=0.0)
