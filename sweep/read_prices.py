"""What the reads of a group depend on, as a payload says it, and their cost."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from simulator.read_cost import ReadCost


class GroupReads(TypedDict):
    """What the reads of a group depend on (SEMANTICS 9)."""

    unit_bytes: float
    """Bytes of a unit, or of a chunk of them."""
    table: NotRequired[list[list[float]]]
    """Rows of [bytes of a read, 1e9 bytes per second]."""
    bridge_bytes: NotRequired[float]
    """Where a read has latency and bandwidth: the gap that takes as long as another read."""


class Reads(TypedDict):
    """How misses become reads."""

    groups: dict[str, GroupReads]
    """By group."""
    align_bytes: int
    """Both ends of a read are whole multiples of it."""


def cost_of(group: GroupReads) -> ReadCost:
    """The cost that reads are planned with. Where it is latency and bandwidth, their product alone
    decides, so a byte takes a nanosecond here."""
    if "table" in group:
        return ReadCost.table(group["table"])
    return ReadCost(latency_us=group.get("bridge_bytes", 0.0) * 1e-3, gbps=1.0)
