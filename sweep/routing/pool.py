"""Simulation tasks of one pool: the experts of all layers share a cache, layer after layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.pool import simulate_pool

if TYPE_CHECKING:
    from sweep.tasks.payloads import Simulate


def pool(
    payload: Simulate, where: Mapping[str, str], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group for the trace in `inputs`."""
    counts = simulate_pool(
        inputs["trace"],
        payload["policy"],
        payload["slots"],
        scope=payload["scope"],
        start=inputs.get("start"),
    )
    return {"groups": {name: group.to_json() for name, group in counts.items()}}, None
