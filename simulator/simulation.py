"""A whole trace through the caches of all layers and groups."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import whole
from simulator.cache import lru_curve, simulate
from simulator.errors import SimulatorError, unknown
from simulator.phases import PhaseCounts, phase_counts
from simulator.policies import policy_class
from simulator.state import STATEFUL, new_state
from simulator.trace import Trace
from simulator.tracefile import TraceFile

SCOPES = ("window", "carry")


@dataclass(frozen=True, slots=True, eq=False)
class GroupCounts:
    """What the caches of one group did: phases for `throughput`, and totals int64 `[layers]`."""

    phases: PhaseCounts
    used_by_layer: NDArray[np.int64]
    hits_by_layer: NDArray[np.int64]

    @property
    def hit_rate(self) -> float:
        """Hits over used units, of all layers."""
        used = int(self.used_by_layer.sum())
        return int(self.hits_by_layer.sum()) / used if used else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as a journal keeps them."""
        return {
            "phases": self.phases.to_json(),
            "used_by_layer": self.used_by_layer.tolist(),
            "hits_by_layer": self.hits_by_layer.tolist(),
        }


def simulate_trace(
    trace: Trace | TraceFile,
    policy: str,
    slots: Mapping[str, int],
    scope: str = "window",
    start: Mapping[str, ArrayLike] | None = None,
    *,
    threads: int = 1,
) -> dict[str, GroupCounts]:
    """Counts of every group of a trace, with `slots[group]` cache slots in each layer.

    `scope`: each window is a session of its own (`window`), or one session goes on through all
    windows (`carry`). `start[group]` holds for each layer an order of units, `[layers, units]`, for
    a hot start. Layers are shared out to `threads` threads, which changes no result. From a
    TraceFile, one window of one layer at a time is in memory, with `carry` one layer for policies
    that keep no state.
    """
    _check_scope(scope)
    policy_class(policy)
    _check_groups(trace, slots, start)
    tasks = [(group, layer) for group in trace.units for layer in range(trace.layers)]

    def run(task: tuple[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        group, layer = task
        order = None if start is None else np.asarray(start[group])[layer]
        return _layer(trace, group, layer, policy, slots[group], scope, order)

    with ThreadPoolExecutor(whole("threads", threads, 1)) as pool:
        results = dict(zip(tasks, pool.map(run, tasks), strict=True))
    return {
        group: _counts([results[group, layer] for layer in range(trace.layers)])
        for group in trace.units
    }


def _layer(
    trace: Trace | TraceFile,
    group: str,
    layer: int,
    policy: str,
    capacity: int,
    scope: str,
    start: ArrayLike | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    units, carry = trace.units[group], scope == "carry"
    stateful = policy in STATEFUL
    state = new_state(units, capacity, policy, start) if carry and stateful else None
    whole_stream = carry and not stateful  # offline policies look ahead into later windows
    windows = [None] if whole_stream else list(range(len(trace.lengths)))
    used, hits = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for window in windows:
        masks = trace.masks(group, layer, window)
        used.append(np.bitwise_count(masks).sum(axis=-1, dtype=np.int64))
        hits.append(simulate(masks, capacity, policy, start, units=units, state=state))
    return np.concatenate(used), np.concatenate(hits)


def _counts(layers: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> GroupCounts:
    used = np.stack([used for used, _ in layers])
    hits = np.stack([hits for _, hits in layers])
    return GroupCounts(phase_counts(used, used - hits), used.sum(axis=1), hits.sum(axis=1))


def trace_curve(
    trace: Trace | TraceFile, group: str, start: ArrayLike | None = None, scope: str = "window"
) -> NDArray[np.int64]:
    """Total LRU hits of a group at every capacity, int64 `[units + 1]`: a curve over DRAM sizes."""
    _check_scope(scope)
    total = np.zeros(trace.units[group] + 1, np.int64)
    windows = range(len(trace.lengths)) if scope == "window" else [None]
    for layer in range(trace.layers):
        order = None if start is None else np.asarray(start)[layer]
        for window in windows:
            masks = trace.masks(group, layer, window)
            total += lru_curve(masks, order, units=trace.units[group])
    return total


def _check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise unknown("cache scope", scope, SCOPES)


def _check_groups(
    trace: Trace | TraceFile, slots: Mapping[str, int], start: Mapping[str, ArrayLike] | None
) -> None:
    for name, by_group in (("slots", slots), ("start", start)):
        missing = [] if by_group is None else [g for g in trace.units if g not in by_group]
        if missing:
            raise SimulatorError(f"{name} lack the group {missing[0]!r} of the trace")
    for group, orders in (start or {}).items():
        shape = np.asarray(orders).shape
        if group in trace.units and shape != (trace.layers, trace.units[group]):
            raise SimulatorError(
                f"start of group {group!r} has shape {shape}; it must be "
                f"[layers, units] = {(trace.layers, trace.units[group])}"
            )
