"""What a token read, as a histogram: enough to give the exact time for any bandwidth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import SimulatorError


@dataclass(frozen=True, slots=True, eq=False)
class PhaseCounts:
    """How many phases of one group used and missed how many units.

    A phase is one (token, layer). `count[i]` phases used `used[i]` units, `missed[i]` of which
    came from Flash; the (used, missed) pairs are unique and sorted. Arrays `[n]` of int64 (float64
    for hypothetical reads made by `uniform_reads`).
    """

    used: NDArray[Any]
    missed: NDArray[Any]
    count: NDArray[Any]

    def __post_init__(self) -> None:
        for name in ("used", "missed", "count"):
            object.__setattr__(self, name, _numbers(getattr(self, name), name))
        if not self.used.shape == self.missed.shape == self.count.shape:
            raise SimulatorError("phase counts: used, missed and count differ in length")
        if (self.missed < 0).any() or (self.missed > self.used).any() or (self.count < 0).any():
            raise SimulatorError("phase counts: 0 <= missed <= used and count >= 0 must hold")

    @property
    def used_total(self) -> int | float:
        """Units used, over all phases."""
        return (self.used * self.count).sum().item()

    @property
    def missed_total(self) -> int | float:
        """Units read from Flash, over all phases."""
        return (self.missed * self.count).sum().item()

    @property
    def hits_total(self) -> int | float:
        """Used units that were in the cache, over all phases."""
        return self.used_total - self.missed_total

    @property
    def phases(self) -> int | float:
        """Number of phases: tokens times layers."""
        return self.count.sum().item()

    def merge(self, others: Iterable[PhaseCounts] | PhaseCounts) -> PhaseCounts:
        """The histogram of these phases and those of `others` together."""
        others = [others] if isinstance(others, PhaseCounts) else list(others)
        parts = [self, *others]
        used, missed, count = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("used", "missed", "count")
        )
        return _unique(used, missed, count)

    def to_json(self) -> dict[str, list[int] | list[float]]:
        """Plain lists, for a journal or a table."""
        return {name: getattr(self, name).tolist() for name in ("used", "missed", "count")}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Sequence[float]]) -> PhaseCounts:
        """The inverse of `to_json`."""
        try:
            return cls(*(np.asarray(mapping[name]) for name in ("used", "missed", "count")))
        except KeyError as error:
            raise SimulatorError(f"phase counts lack the field {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhaseCounts) and self.to_json() == other.to_json()


def _numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.number)):
        raise SimulatorError(f"phase counts: {name} must be a list of numbers")
    if np.issubdtype(array.dtype, np.integer) or array.size == 0:
        return array.astype(np.int64)
    if not np.isfinite(array).all():
        raise SimulatorError(f"phase counts: {name} has a value that is not finite")
    return array.astype(np.float64)


def _unique(used: NDArray[Any], missed: NDArray[Any], count: NDArray[Any]) -> PhaseCounts:
    order = np.lexsort((missed, used))
    used, missed, count = used[order], missed[order], count[order]
    first = np.ones(used.size, dtype=bool)
    first[1:] = (used[1:] != used[:-1]) | (missed[1:] != missed[:-1])
    starts = np.flatnonzero(first)
    total = np.add.reduceat(count, starts) if starts.size else count
    return PhaseCounts(used[starts], missed[starts], total)


def phase_counts(used: ArrayLike, missed: ArrayLike) -> PhaseCounts:
    """The histogram of phases given one by one, in arrays of any equal shape."""
    used, missed = np.asarray(used), np.asarray(missed)
    if used.shape != missed.shape:
        raise SimulatorError(
            f"used has shape {used.shape}, missed {missed.shape}; they must be equal"
        )
    used, missed = used.reshape(-1), missed.reshape(-1)
    return _unique(used, missed, np.ones(used.size, dtype=np.int64))


def spread_of(layers: Sequence[NDArray[np.int64]]) -> dict[str, list[int]]:
    """The least, the most and the sum of squares of the units that tokens used, by layer."""
    return {
        "least": [int(used.min()) for used in layers],
        "most": [int(used.max()) for used in layers],
        "squares": [int((used * used).sum()) for used in layers],
    }


def uniform_reads(
    density: float, hit_rate: float, units: int, layers: int, tokens: int = 1
) -> PhaseCounts:
    """Reads of `tokens` tokens which all use `density` of the units and hit at `hit_rate`.

    For figures that follow from geometry alone; the counts need not be whole numbers.
    """
    if not (0 <= density <= 1 and 0 <= hit_rate <= 1):
        raise SimulatorError(f"density {density!r} and hit rate {hit_rate!r} must be in [0, 1]")
    used = density * units
    return PhaseCounts(
        np.array([used]), np.array([used * (1 - hit_rate)]), np.array([layers * tokens])
    )
