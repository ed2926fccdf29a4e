"""Simulation tasks: what one policy and capacity cost on a trace, on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.simulation import simulate_trace, trace_curve

if TYPE_CHECKING:
    from sweep.tasks.payloads import Simulate


def simulate(
    payload: Simulate, where: Mapping[str, str], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group for the trace in `inputs` (and an order)."""
    counts = simulate_trace(
        inputs["trace"],
        payload["policy"],
        payload["slots"],
        scope=payload["scope"],
        start=inputs.get("start"),
    )
    groups = {name: group.to_json() for name, group in counts.items()}
    if payload["policy"] == "lru":  # one pass more gives the hits of every cache size
        for name in groups:
            groups[name]["hits_by_percent"] = _curve(inputs, name, payload["scope"])
    return {"groups": groups}, None


def _curve(inputs: dict[str, Any], group: str, scope: str) -> list[int]:
    """LRU hits of a group with 0, 1, … 100 % of its units cached: its hit-rate curve."""
    trace, start = inputs["trace"], inputs.get("start")
    curve = trace_curve(trace, group, None if start is None else start[group], scope)
    units = trace.units[group]
    return [int(curve[percent * units // 100]) for percent in range(101)]
