"""Hits of a cache under masks that do not depend on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator import policies
from simulator.arguments import order_of_units, whole
from simulator.errors import SimulatorError
from simulator.kernels import recency, scans
from simulator.kernels.choose import new_memory
from simulator.packing import check_packed, pack
from simulator.state import STATEFUL, CacheState, first_units, new_state

Masks = NDArray[Any]  # bool [tokens, units], or uint64 [tokens, words]


def simulate(
    masks: Masks,
    capacity: int,
    policy: str,
    start: ArrayLike | None = None,
    *,
    units: int | None = None,
    state: CacheState | None = None,
) -> NDArray[np.int64]:
    """Hits of each token, int64 `[tokens]`, of one layer's cache of one group.

    `masks` are bool `[tokens, units]`, or packed (`simulator.pack`) if `units` is given. All units
    of a token are requested together (SEMANTICS 4). `start` is the order of units of a hot start,
    None for a cold one; a `state` from `new_state` takes its place and is carried on. Raises
    SimulatorError for a negative capacity, an unknown policy, a start that is no permutation.
    """
    words, units = _words(masks, units)
    capacity = min(whole("capacity", capacity, 0), units)
    kind = policies.policy_class(policy)
    if state is None and policy in STATEFUL:
        state = new_state(units, capacity, policy, start)
    if state is not None:
        state.expect(policy, units, capacity)
        return feed(state, words)
    order = order_of_units(start, units)
    if kind.needs_start and order is None:
        raise SimulatorError(f"policy {policy!r} needs a start: the order of units it caches")
    if policy not in ("belady", "min"):
        return kind.scan(words, units, capacity, order)
    hits = np.zeros(len(words), np.int64)
    cached = first_units(order, capacity, units)
    if policy == "belady":
        scans.belady_scan(words, cached, capacity, new_memory(), hits)
    else:
        scans.min_scan(words, pack(cached.view(np.bool_)), capacity, hits)
    return hits


def feed(state: CacheState, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hits of the packed masks `[tokens, words]` of the next tokens of a session."""
    hits = np.zeros(len(words), np.int64)
    if state.policy == "static":
        content = pack(state.cached.view(np.bool_))
        hits[:] = np.bitwise_count(words & content).sum(axis=-1)
    elif state.policy == "lru":
        seen = recency.lru_scan(words, state.order, state.seen, state.capacity, hits)
        state.seen = int(seen)
    elif state.policy == "lfu":
        scans.lfu_scan(
            words, state.cached, state.uses, state.tokens, state.capacity, state.memory, hits
        )
    state.tokens += len(words)
    return hits


def lru_curve(
    masks: Masks, start: ArrayLike | None = None, *, units: int | None = None
) -> NDArray[np.int64]:
    """Total LRU hits at every capacity, int64 `[units + 1]`, in one pass."""
    words, units = _words(masks, units)
    order = order_of_units(start, units)
    by_place, seen = np.zeros(units, np.int64), 0 if order is None else units
    order = np.arange(units, dtype=np.uint32) if order is None else order
    recency.lru_curve_scan(words, order, seen, by_place)
    return np.concatenate([[0], np.cumsum(by_place)])


def _words(masks: Masks, units: int | None) -> tuple[NDArray[np.uint64], int]:
    masks = np.asarray(masks)
    if masks.ndim != 2:
        raise SimulatorError(f"masks have shape {masks.shape}; they must be [tokens, units]")
    if units is None:
        return pack(masks), masks.shape[1]
    return check_packed(masks, units), units
