"""What caches of a trace did event by event: misses, insertions, evictions (arXiv 2608.07911).

An event is one token in one layer. Its hits are those of the content as the token arrives, all its
misses are served, then the policy admits and evicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import order_of_units, whole
from simulator.errors import SimulatorError, unknown
from simulator.packing import unpack
from simulator.policies import Cache, next_uses, policy_class
from simulator.trace import Trace
from simulator.tracefile import TraceFile


@dataclass(frozen=True, slots=True, eq=False)
class EventCounts:
    """Of one policy and one group; arrays are int64 `[layers, tokens]`."""

    used: NDArray[np.int64]
    missed: NDArray[np.int64]
    compulsory: int
    """Misses of units that no earlier token of the window had used."""
    insertions: int
    evictions: int
    asked_per_slot: float
    """Mean over events of units asked for over slots; infinite without slots."""
    asked_above_slots: float
    """Share of events in which that is above 1."""

    @property
    def accesses(self) -> int:
        """Units used, of all tokens and layers."""
        return int(self.used.sum())

    @property
    def misses(self) -> int:
        """Those of them that were read."""
        return int(self.missed.sum())

    @property
    def hits(self) -> int:
        """Those of them that were cached."""
        return self.accesses - self.misses

    @property
    def miss_rate(self) -> float:
        """Misses over accesses: the effective miss fraction of events of one token."""
        return self.misses / self.accesses if self.accesses else 0.0

    def event_misses(self, percent: float) -> int:
        """Misses of an event that so many percent of events do not exceed (nearest rank)."""
        return _percentile(self.missed.reshape(-1), percent)

    def step_misses(self, percent: float) -> int:
        """The same of all layers of a token together."""
        return _percentile(self.missed.sum(axis=0), percent)


def event_counts(
    trace: Trace | TraceFile,
    group: str,
    policy: str,
    slots: int | Sequence[int],
    start: ArrayLike | None = None,
) -> EventCounts:
    """Counts of one group of a trace with `slots` in each layer, or with a number for each.

    Each window is a session of its own. `start` holds orders of units by layer. One unit after the
    other, by the plain policies: for traces of some thousand tokens. Raises SimulatorError for a
    group that the trace does not have and for slots of another number of layers.
    """
    if group not in trace.units:
        raise unknown("group of the trace", group, trace.units)
    if policy_class(policy).needs_start and start is None:
        raise SimulatorError(f"policy {policy!r} needs a start: the order of units it caches")
    by_layer = [slots] * trace.layers if isinstance(slots, int) else list(slots)
    if len(by_layer) != trace.layers:
        raise SimulatorError(f"slots of {len(by_layer)} layers; the trace has {trace.layers}")
    of_layers = [
        _Layer(trace, group, layer, policy, whole("slots", by_layer[layer], 0), start)
        for layer in range(trace.layers)
    ]
    asked = np.array([layer.asked() for layer in of_layers])
    return EventCounts(
        np.stack([layer.used for layer in of_layers]),
        np.stack([layer.missed for layer in of_layers]),
        sum(layer.compulsory for layer in of_layers),
        sum(layer.insertions for layer in of_layers),
        sum(layer.evictions for layer in of_layers),
        float(asked.mean()) if asked.size else 0.0,
        float((asked > 1).mean()) if asked.size else 0.0,
    )


def pooled_slots(share: float, units: int, layers: int) -> list[int]:
    """Slots by layer of a share of all units; what does not divide goes to the first layers."""
    total = math.floor(share * units * layers + 1e-9)
    return [total // layers + (layer < total % layers) for layer in range(layers)]


def recoverable_gap(causal: Sequence[EventCounts], bound: EventCounts) -> float:
    """(misses of the best causal policy - misses of the bound) / the former; 0 without misses."""
    best = min(counts.misses for counts in causal)
    return (best - bound.misses) / best if best else 0.0


class _Layer:
    """One layer's windows through fresh caches."""

    def __init__(
        self,
        trace: Trace | TraceFile,
        group: str,
        layer: int,
        policy: str,
        capacity: int,
        start: ArrayLike | None,
    ) -> None:
        self.compulsory = self.insertions = self.evictions = 0
        self.capacity = capacity
        units = trace.units[group]
        of_layer = None if start is None else np.asarray(start)[layer]
        order = order_of_units(of_layer, units)
        self._order = None if order is None else order.tolist()
        self._policy, self._units = policy, units
        windows = [
            self._window(unpack(trace.masks(group, layer, window), units))
            for window in range(len(trace.lengths))
        ]
        self.used = np.concatenate([used for used, _ in windows])
        self.missed = np.concatenate([missed for _, missed in windows])

    def asked(self) -> NDArray[np.float64]:
        """Units asked for over slots, of each event."""
        if not self.capacity:
            return np.full(len(self.used), np.inf)
        return self.used / self.capacity

    def _window(self, masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        cache = Cache(self._policy, self._units, self.capacity, self._order)
        future = next_uses(masks) if policy_class(self._policy).offline else None
        used = masks.sum(axis=1, dtype=np.int64)
        missed, seen = used.copy(), set[int]()
        for token, row in enumerate(masks):
            if future is not None:
                cache.policy.next_use = future[token]
            asked, before = np.flatnonzero(row).tolist(), set(cache.cached)
            missed[token] -= cache.step(asked)
            self.compulsory += len(set(asked) - before - seen)
            seen.update(asked)
            self.insertions += len(cache.cached - before)
            self.evictions += len(before - cache.cached)
        return used, missed


def _percentile(values: NDArray[np.int64], percent: float) -> int:
    ordered = np.sort(values)
    return int(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)])
