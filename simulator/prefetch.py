"""Counts of what was announced one layer ahead, from which any device's time follows (SEMANTICS 9).

The same law as `simulator.preloading` with a span of one layer, without arrays of tokens: the time
that a token waits depends on what one layer uses and what is announced for the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.device import Device
from simulator.errors import SimulatorError

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PrefetchCounts:
    """Units of one group. `pairs` int64 `[n, 3]`: units that a layer used, units announced for the
    next layer and not cached, how often; the last layer's next one is announced nothing."""

    pairs: Ints
    demanded: Ints
    """int64 `[n, 2]`: units that were used, neither cached nor announced, and how often."""
    wasted: int
    """Units that were announced, not cached, and not used."""

    @classmethod
    def of(cls, used: Ints, announced: Ints, demanded: Ints, wasted: int) -> PrefetchCounts:
        """From units by layer and token, `[layers, tokens]`; nothing is announced for layer 0."""
        if not used.shape == announced.shape == demanded.shape or announced[0].any():
            raise SimulatorError(
                "prefetch: three arrays [layers, tokens] are expected, and layer 0 is not announced"
            )
        following = np.zeros_like(announced)
        following[:-1] = announced[1:]
        pairs = np.stack([used.reshape(-1), following.reshape(-1)], axis=1)
        return cls(_counted(pairs), _counted(demanded.reshape(-1, 1)), wasted)

    @property
    def announced(self) -> int:
        """Units that were read ahead."""
        return int((self.pairs[:, 1] * self.pairs[:, 2]).sum())

    @property
    def on_demand(self) -> int:
        """Units that were read on demand."""
        return int((self.demanded[:, 0] * self.demanded[:, 1]).sum())

    def seconds(self, device: Device, unit_bytes: float) -> float:
        """Seconds of all layers and tokens on a device: layers compute while what is announced for
        the next one is read; reads on demand are waited for."""
        rate = min(device.dram_gbps, device.compute_gbps or np.inf) * 1e9
        compute = self.pairs[:, 0] * unit_bytes / rate
        waiting = np.maximum(_read_seconds(self.pairs[:, 1], device, unit_bytes) - compute, 0.0)
        demand = _read_seconds(self.demanded[:, 0], device, unit_bytes)
        total = ((compute + waiting) * self.pairs[:, 2]).sum()
        return float(total + (demand * self.demanded[:, 1]).sum())

    def merge(self, others: Iterable[PrefetchCounts]) -> PrefetchCounts:
        """Of these tokens and those of `others` together."""
        parts = [self, *others]
        return PrefetchCounts(
            _merged([part.pairs for part in parts]),
            _merged([part.demanded for part in parts]),
            sum(part.wasted for part in parts),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as a journal keeps them."""
        pairs, demanded = self.pairs.tolist(), self.demanded.tolist()
        return {"pairs": pairs, "demanded": demanded, "wasted": self.wasted}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> PrefetchCounts:
        """The inverse of `to_json`."""
        pairs, demanded = (np.array(mapping[n], np.int64) for n in ("pairs", "demanded"))
        return cls(pairs.reshape(-1, 3), demanded.reshape(-1, 2), int(mapping["wasted"]))


def _read_seconds(units: Ints, device: Device, unit_bytes: float) -> NDArray[np.float64]:
    """One read a unit where a read has a cost of its own."""
    cost = device.read_cost()
    one = unit_bytes / (device.flash_gbps * 1e9) if cost is None else float(cost(unit_bytes))
    return np.asarray(units * one, np.float64)


def _counted(rows: Ints) -> Ints:
    values, counts = np.unique(rows, axis=0, return_counts=True)
    return np.concatenate([values, counts[:, None]], axis=1)


def _merged(parts: list[Ints]) -> Ints:
    rows = np.concatenate(parts)
    values, inverse = np.unique(rows[:, :-1], axis=0, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, inverse.reshape(-1), rows[:, -1])
    return np.concatenate([values, counts[:, None]], axis=1)
