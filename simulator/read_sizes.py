"""Reads of many tokens as a few numbers: what a journal keeps and a report prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError
from simulator.read_cost import ReadCost

PER_OCTAVE = 4
"""Classes of size between a size and its double."""


def class_of(read_bytes: NDArray[np.float64]) -> NDArray[np.int32]:
    """The class of each size; those below 1 byte are in the first."""
    octaves = np.log2(np.maximum(read_bytes, 1.0))
    return np.floor(PER_OCTAVE * octaves).astype(np.int32)


def histogram_of(sizes: Iterable[tuple[int, int, float]]) -> dict[int, int]:
    """Reads by the largest power of two that is at most their bytes, of rows as `ReadCounts` has
    them."""
    by_power: dict[int, int] = {}
    for size_class, reads, _ in sizes:
        power = 2 ** (size_class // PER_OCTAVE)
        by_power[power] = by_power.get(power, 0) + reads
    return by_power


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """The reads of `tokens` tokens of one layer and group, or of several together.

    `sizes` are (class, reads, bytes) of the classes of size that occur, ascending; class c begins
    at `2 ** (c / PER_OCTAVE)` bytes. `missed_bytes` are those of the missed units alone.
    """

    tokens: int
    reads: int
    read_bytes: float
    missed_bytes: float
    seconds: float
    sizes: tuple[tuple[int, int, float], ...]

    @property
    def wasted(self) -> float:
        """Share of the bytes read that are of gaps and of alignment; 0 where nothing is read."""
        return 1 - self.missed_bytes / self.read_bytes if self.read_bytes else 0.0

    @property
    def mean_bytes(self) -> float:
        """Mean size of a read; 0 where there is none."""
        return self.read_bytes / self.reads if self.reads else 0.0

    @property
    def histogram(self) -> dict[int, int]:
        """Reads by the largest power of two that is at most their bytes."""
        return histogram_of(self.sizes)

    def seconds_at(self, cost: ReadCost) -> float:
        """Seconds of these reads at another cost, with the same gaps read.

        Exact for the affine law; under a table each class counts as reads of its mean size.
        """
        return math.fsum(reads * cost(of_class / reads) for _, reads, of_class in self.sizes)

    def merge(self, others: Iterable[ReadCounts]) -> ReadCounts:
        """These and `others` together."""
        parts = [self, *others]
        by_class: dict[int, tuple[int, float]] = {}
        for size_class, reads, read_bytes in (row for part in parts for row in part.sizes):
            before = by_class.get(size_class, (0, 0.0))
            by_class[size_class] = (before[0] + reads, before[1] + read_bytes)
        return ReadCounts(
            tokens=sum(part.tokens for part in parts),
            reads=sum(part.reads for part in parts),
            read_bytes=math.fsum(part.read_bytes for part in parts),
            missed_bytes=math.fsum(part.missed_bytes for part in parts),
            seconds=math.fsum(part.seconds for part in parts),
            sizes=tuple((name, *by_class[name]) for name in sorted(by_class)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists; `from_json` reads them back."""
        return {**asdict(self), "sizes": [list(row) for row in self.sizes]}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> ReadCounts:
        """The inverse of `to_json`."""
        missing = [field.name for field in fields(cls) if field.name not in mapping]
        if missing:
            raise SimulatorError(f"read counts lack the field {missing[0]!r}")
        sizes = tuple((int(c), int(reads), float(size)) for c, reads, size in mapping["sizes"])
        rest = {name: value for name, value in mapping.items() if name != "sizes"}
        return cls(**rest, sizes=sizes)
