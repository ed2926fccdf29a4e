"""Simulation tasks: what one policy and capacity cost on a trace, on CPUs."""

from __future__ import annotations

from typing import Any

from simulator.simulation import simulate_trace
from sweep.selectors import counts_json


def simulate(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group for the trace in `inputs` (and an order)."""
    counts = simulate_trace(
        inputs["trace"],
        payload["policy"],
        payload["slots"],
        scope=payload["scope"],
        start=inputs.get("start"),
    )
    groups = {name: counts_json(group) for name, group in counts.items()}
    return {"groups": groups}, None
