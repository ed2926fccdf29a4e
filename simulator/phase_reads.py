"""How the missed units of phases came from Flash: reads, bytes and seconds (SEMANTICS 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError
from simulator.phases import PhaseCounts
from simulator.read_cost import ReadCost


@dataclass(frozen=True, slots=True)
class PhaseReads:
    """What stands beside the (used, missed) pairs of a PhaseCounts: of all phases of a pair
    together, how many reads they made, the bytes read (gaps and alignment included) and the
    seconds that these take; arrays `[n]`. `sizes` counts the reads of so many bytes and more,
    by powers of two.
    """

    phases: PhaseCounts
    reads: NDArray[np.int64]
    bytes: NDArray[np.float64]
    seconds: NDArray[np.float64]
    sizes: Mapping[int, int]

    def __post_init__(self) -> None:
        for name in ("reads", "bytes", "seconds"):
            if getattr(self, name).shape != self.phases.used.shape:
                raise SimulatorError(f"phase reads: {name} has not one figure for each pair")

    @property
    def reads_total(self) -> int:
        """Reads, over all phases."""
        return int(self.reads.sum())

    @property
    def bytes_total(self) -> float:
        """Bytes read, over all phases."""
        return float(self.bytes.sum())

    @property
    def seconds_total(self) -> float:
        """Seconds of Flash, over all phases."""
        return float(self.seconds.sum())

    def priced(self, cost: ReadCost) -> PhaseReads:
        """The same reads at latency and bandwidth of a cost; at a table's, as they are."""
        if not cost.affine:
            return self
        seconds = self.reads * (cost.latency_us * 1e-6) + self.bytes / (cost.gbps * 1e9)
        return replace(self, seconds=seconds)

    def merge(self, others: Iterable[PhaseReads]) -> PhaseReads:
        """These phases and those of `others` together."""
        parts = [self, *others]
        columns = [
            np.concatenate([getattr(part.phases, name) for part in parts])
            for name in ("used", "missed", "count")
        ]
        sums = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("reads", "bytes", "seconds")
        ]
        sizes: dict[int, int] = {}
        for part in parts:
            for size, count in part.sizes.items():
                sizes[size] = sizes.get(size, 0) + count
        return _grouped(columns[0], columns[1], columns[2], sums, sizes)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for a journal."""
        return {
            "phases": self.phases.to_json(),
            "reads": self.reads.tolist(),
            "bytes": self.bytes.tolist(),
            "seconds": self.seconds.tolist(),
            "sizes": {str(size): count for size, count in sorted(self.sizes.items())},
        }

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> PhaseReads:
        """The inverse of `to_json`; without seconds they are 0, until `priced` says them."""
        return cls(
            PhaseCounts.from_json(mapping["phases"]),
            np.array(mapping["reads"], np.int64),
            np.array(mapping["bytes"], np.float64),
            np.array(mapping.get("seconds", np.zeros(len(mapping["reads"]))), np.float64),
            {int(size): count for size, count in mapping["sizes"].items()},
        )


def phase_reads(
    used: NDArray[np.int64],
    missed: NDArray[np.int64],
    reads: NDArray[np.int64],
    nbytes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    sizes: Mapping[int, int],
) -> PhaseReads:
    """Of phases given one by one, in arrays of one shape."""
    flat = [np.asarray(column).reshape(-1) for column in (used, missed, reads, nbytes, seconds)]
    if len({column.size for column in flat}) != 1:
        raise SimulatorError("phase reads: the columns differ in length")
    return _grouped(flat[0], flat[1], np.ones(flat[0].size, np.int64), flat[2:], sizes)


def _grouped(
    used: NDArray[Any],
    missed: NDArray[Any],
    count: NDArray[Any],
    sums: list[NDArray[Any]],
    sizes: Mapping[int, int],
) -> PhaseReads:
    """Pairs once each, sorted, with the sums of the phases that have them."""
    order = np.lexsort((missed, used))
    used, missed = used[order], missed[order]
    first = np.ones(used.size, bool)
    first[1:] = (used[1:] != used[:-1]) | (missed[1:] != missed[:-1])
    starts = np.flatnonzero(first)

    def total(column: NDArray[Any]) -> NDArray[Any]:
        return np.add.reduceat(column[order], starts) if starts.size else column[:0]

    phases = PhaseCounts(used[starts], missed[starts], total(count))
    reads, nbytes, seconds = (total(column) for column in sums)
    return PhaseReads(phases, reads.astype(np.int64), nbytes * 1.0, seconds * 1.0, dict(sizes))
