"""Which units a token had to read: used ones that the cache did not hold (SEMANTICS 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import order_of_units, whole
from simulator.errors import SimulatorError
from simulator.kernels import misses as kernels
from simulator.packing import check_packed, pack, unpack
from simulator.policies import Cache, next_uses, policy_class
from simulator.state import STATEFUL, CacheState, first_units, new_state

Masks = NDArray[Any]  # bool [tokens, units], or uint64 [tokens, words]
_FIXED = ("static", "hot-set")


def miss_masks(
    masks: Masks,
    capacity: int,
    policy: str,
    start: ArrayLike | None = None,
    *,
    units: int | None = None,
    state: CacheState | None = None,
) -> Masks:
    """The used units that were not in the cache, bool `[tokens, units]`, of every policy.

    As `simulate`, whose hits are the used units that are not in here: `masks` are bool, or packed
    if `units` is given, and then so is what is returned. A `state` takes the place of `start` and
    is carried on. Policies without a kernel take their plain loop. Raises SimulatorError as
    `simulate` does.
    """
    words, count = _words(masks, units)
    capacity = min(whole("capacity", capacity, 0), count)
    kind, order = policy_class(policy), order_of_units(start, count)
    if kind.needs_start and order is None and state is None:
        raise SimulatorError(f"policy {policy!r} needs a start: the order of units it caches")
    if state is None and policy in STATEFUL:
        state = new_state(count, capacity, policy, start)
    if state is not None:
        state.expect(policy, count, capacity)
        missed = _feed(state, words)
    else:
        missed = _whole_session(words, count, capacity, policy, order)
    return missed if units is not None else unpack(missed, count)


def miss_masks_plainly(
    masks: NDArray[np.bool_], capacity: int, policy: str, start: Sequence[int] | None = None
) -> NDArray[np.bool_]:
    """`miss_masks` one token after the other, by the sets and loops of `simulator.policies`."""
    cache = Cache(policy, masks.shape[1], capacity, start)
    future = next_uses(masks) if cache.policy.offline else None
    missed = masks.copy()
    for token, row in enumerate(missed):
        if future is not None:
            cache.policy.next_use = future[token]
        used = np.flatnonzero(row).tolist()
        row[list(cache.cached)] = False
        cache.step(used)
    return missed


def _words(masks: Masks, units: int | None) -> tuple[NDArray[np.uint64], int]:
    masks = np.asarray(masks)
    if masks.ndim != 2:
        raise SimulatorError(f"masks have shape {masks.shape}; they must be [tokens, units]")
    if units is None:
        return pack(masks), masks.shape[1]
    return check_packed(masks, units), units


def _feed(state: CacheState, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    missed = words.copy()
    if state.policy == "static":
        missed &= ~pack(state.cached.view(np.bool_))
    elif state.policy == "lru":
        seen = kernels.lru_misses(words, state.order, state.seen, state.capacity, missed)
        state.seen = int(seen)
    elif state.policy == "lfu":
        kernels.lfu_misses(
            words, state.cached, state.uses, state.tokens, state.capacity, state.memory, missed
        )
    state.tokens += len(words)
    return missed


def _whole_session(
    words: NDArray[np.uint64],
    units: int,
    capacity: int,
    policy: str,
    order: NDArray[np.uint32] | None,
) -> NDArray[np.uint64]:
    if policy in ("belady", "min"):
        missed = np.empty_like(words)
        cached = first_units(order, capacity, units)
        kernels.offline_misses(words, cached, capacity, policy == "min", missed)
        return missed
    if policy in _FIXED:
        return words & ~pack(first_units(order, capacity, units).view(np.bool_))
    start = None if order is None else order.tolist()
    return pack(miss_masks_plainly(unpack(words, units), capacity, policy, start))
