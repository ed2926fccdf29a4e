"""What a token asks of a cache against what the cache can hold, as columns of the table."""

from __future__ import annotations

from collections.abc import Mapping

from simulator import PhaseCounts


def columns(phases: Mapping[str, PhaseCounts], slots: Mapping[str, int]) -> dict[str, float | None]:
    """The mean of units asked for over slots, and the share of events in which it is above 1.

    An event is one token in one layer and group. Above 1 all policies that admit what is used
    coincide: the cache is full of units of the last token. None without a cache, or where one group
    has no slot.
    """
    events = sum(counts.phases for counts in phases.values())
    if not events or not all(slots[group] for group in phases):
        return {"asked_per_slot": None, "asked_above_slots": None}
    demand = sum(counts.used_total / slots[group] for group, counts in phases.items())
    above = sum(
        counts.count[counts.used > slots[group]].sum().item() for group, counts in phases.items()
    )
    return {"asked_per_slot": demand / events, "asked_above_slots": above / events}
