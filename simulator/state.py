"""The state of one cache, carried from one call to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import order_of_units, whole
from simulator.errors import SimulatorError
from simulator.kernels.choose import new_memory
from simulator.packing import WORD, words_for
from simulator.policies import policy_class

STATEFUL = ("none", "static", "lru", "lfu")  # online policies that have a kernel


@dataclass(slots=True)
class CacheState:
    """One layer's cache of one group; the functions that take it update it in place.

    `cached` (bytes 0 or 1) and `uses` are padded to whole words of 64 units. `order` is the recency
    list, its first `seen` units were used before. `memory` speeds up searches and changes nothing.
    """

    policy: str
    units: int
    capacity: int
    cached: NDArray[np.uint8]
    uses: NDArray[np.int32]
    order: NDArray[np.uint32]
    seen: int
    tokens: int
    memory: NDArray[np.float64]

    @property
    def content(self) -> NDArray[np.int64]:
        """The cached units, ascending."""
        if self.policy == "lru":
            return np.sort(self.order[: min(self.capacity, self.seen)]).astype(np.int64)
        return np.flatnonzero(self.cached)

    def expect(self, policy: str, units: int, capacity: int) -> None:
        """Raise SimulatorError unless this is a state of that cache."""
        held = (self.policy, self.units, self.capacity)
        wished = (policy, units, min(capacity, units))
        if held != wished:
            raise SimulatorError(
                f"the state is of policy, units, capacity {held}; the call is for {wished}"
            )


def new_state(
    units: int, capacity: int, policy: str = "lfu", start: ArrayLike | None = None
) -> CacheState:
    """The state before the first token: empty, or full of the first `capacity` units of `start`."""
    units = whole("units", units, 1)
    capacity = min(whole("capacity", capacity, 0), units)
    kind, order = policy_class(policy), order_of_units(start, units)
    if policy not in STATEFUL:
        what = "knows the future" if kind.offline else "has no kernel"
        raise SimulatorError(f"policy {policy!r} {what}; a state needs {', '.join(STATEFUL)}")
    if kind.needs_start and order is None:
        raise SimulatorError(f"policy {policy!r} needs a start: the order of units it caches")
    return CacheState(
        policy=policy,
        units=units,
        capacity=capacity,
        cached=first_units(order, capacity if kind.caches else 0, units),
        uses=np.zeros(words_for(units) * WORD, np.int32),
        order=np.arange(units, dtype=np.uint32) if order is None else order.copy(),
        seen=0 if order is None else units,
        tokens=0,
        memory=new_memory(),
    )


def first_units(order: NDArray[np.uint32] | None, capacity: int, units: int) -> NDArray[np.uint8]:
    """Bytes, padded to whole words, that are 1 for the first `capacity` units of `order`."""
    cached = np.zeros(words_for(units) * WORD, np.uint8)
    if order is not None:
        cached[order[:capacity]] = 1
    return cached
