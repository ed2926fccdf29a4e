"""One cache for the units of all layers: a token asks it layer after layer (SEMANTICS 11)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.cache import simulate
from simulator.errors import SimulatorError, unknown
from simulator.packing import pack, unpack
from simulator.phases import phase_counts
from simulator.policies import policy_class
from simulator.simulation import SCOPES, GroupCounts
from simulator.state import STATEFUL, new_state
from simulator.trace import Trace


def simulate_pool(
    trace: Trace,
    policy: str,
    slots: Mapping[str, int],
    scope: str = "window",
    start: Mapping[str, ArrayLike] | None = None,
) -> dict[str, GroupCounts]:
    """Counts of every group of a trace whose layers share one cache of `slots[group]` units.

    An event is one token in one layer, in the order in which a model runs: its units are asked for
    together. Unit `u` of layer `l` is number `l * units + u`; ties of policies go by it. `start`
    holds orders by layer [layers, units]: the best of every layer come first, then the next ones.
    Raises SimulatorError for a pool that holds fewer units than one event asks for.
    """
    if scope not in SCOPES:
        raise unknown("cache scope", scope, SCOPES)
    return {
        group: _group(
            trace, group, policy, slots[group], scope, None if start is None else start[group]
        )
        for group in trace.units
    }


def _group(
    trace: Trace, group: str, policy: str, capacity: int, scope: str, start: ArrayLike | None
) -> GroupCounts:
    units, layers = trace.units[group], trace.layers
    order = None if start is None else _interleaved(np.asarray(start), units)
    masks = np.stack([unpack(trace.masks(group, layer), units) for layer in range(layers)])
    used = masks.sum(axis=-1, dtype=np.int64)  # [layers, tokens]
    if policy_class(policy).caches and used.size and capacity < used.max():
        raise SimulatorError(
            f"a pool of {capacity} units is smaller than one event, which asks for {used.max()}"
        )
    stateful = policy in STATEFUL
    state = new_state(layers * units, capacity, policy, order) if stateful else None
    hits, begin = list[NDArray[np.int64]](), 0
    whole = scope == "carry" and not stateful  # offline policies look ahead into later windows
    for length in (sum(trace.lengths),) if whole else trace.lengths:
        events = _events(masks[:, begin : begin + length])
        if stateful and scope == "window":
            state = new_state(layers * units, capacity, policy, order)
        of_events = simulate(events, capacity, policy, order, units=layers * units, state=state)
        hits.append(of_events.reshape(length, layers).T)
        begin += length
    hit = np.concatenate(hits, axis=1)
    return GroupCounts(phase_counts(used, used - hit), used.sum(axis=1), hit.sum(axis=1))


BLOCK = 64
"""Tokens whose events are held as one byte a unit."""


def _events(masks: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Masks [layers, tokens, units] as packed events [tokens * layers, words]."""
    layers, tokens, units = masks.shape
    packed = list[NDArray[np.uint64]]()
    for begin in range(0, tokens, BLOCK):
        block = masks[:, begin : begin + BLOCK]
        events = np.zeros((block.shape[1], layers, layers, units), np.bool_)
        for layer in range(layers):
            events[:, layer, layer] = block[layer]
        packed.append(pack(events.reshape(-1, layers * units)))
    return np.concatenate(packed)


def _interleaved(orders: NDArray[np.int64], units: int) -> NDArray[np.int64]:
    """Orders by layer [layers, units] as one order of all units."""
    numbers = orders + np.arange(len(orders))[:, None] * units
    return numbers.T.reshape(-1)
