"""Reading: what one policy and capacity miss on a trace, and by which reads it comes from Flash.

It is a simulation by its kind; its phases are those of a simulation without reads, and beside each
(used, missed) pair stand reads, bytes and, of a measured table, seconds (SEMANTICS 9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulator.misses import miss_masks
from simulator.packing import unpack
from simulator.phase_reads import PhaseReads, phase_reads
from simulator.read_plans import reads_by_size
from sweep.read_prices import cost_of

if TYPE_CHECKING:
    from simulator.read_plans import Totals
    from simulator.trace import Trace
    from sweep.read_prices import Reads
    from sweep.tasks.payloads import Simulate


def reads(
    payload: Simulate, where: Mapping[str, str], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group for the trace in `inputs`, and their reads."""
    trace: Trace = inputs["trace"]
    return {"groups": {group: _group(payload, inputs, trace, group) for group in trace.units}}, None


def _group(
    payload: Simulate, inputs: Mapping[str, Any], trace: Trace, group: str
) -> dict[str, Any]:
    counted = group_counts(payload, inputs, trace, group, reads_by_size)
    if "table" not in _asked(payload)["groups"][group]:
        del counted["seconds"]  # a device's latency and bandwidth say them
    return counted


def _asked(payload: Simulate) -> Reads:
    if "reads" not in payload:
        raise ValueError("how misses become reads is not said")
    return payload["reads"]


def group_counts(
    payload: Simulate,
    inputs: Mapping[str, Any],
    trace: Trace,
    group: str,
    count: Callable[..., tuple[Totals, dict[int, int]]],
) -> dict[str, Any]:
    """Used, hit and missed units of a group and their reads, which `count` tells of missed units, a
    unit's bytes, its cost and the alignment: columns of tokens, and reads by powers of two."""
    asked = _asked(payload)
    priced = (asked["groups"][group]["unit_bytes"], cost_of(asked["groups"][group]))
    parts: list[PhaseReads] = []
    used_by_layer, hits_by_layer = [], []
    for layer in range(trace.layers):
        used_total = missed_total = 0
        for masks in _sessions(trace, group, layer, payload["scope"]):
            used = np.bitwise_count(masks).sum(axis=-1, dtype=np.int64)
            missed = _missed(payload, inputs, trace, group, layer, masks)
            columns, sizes = count(missed, *priced, asked["align_bytes"])
            counts = missed.sum(axis=-1, dtype=np.int64)
            parts.append(phase_reads(used, counts, *columns, sizes))
            used_total, missed_total = used_total + used.sum(), missed_total + counts.sum()
        used_by_layer.append(int(used_total))
        hits_by_layer.append(int(used_total - missed_total))
    by_layer = {"used_by_layer": used_by_layer, "hits_by_layer": hits_by_layer}
    return parts[0].merge(parts[1:]).to_json() | by_layer


def _sessions(trace: Trace, group: str, layer: int, scope: str) -> Iterator[NDArray[np.uint64]]:
    """Packed masks of each session of a cache: of a window, or of all of them."""
    if scope == "carry":
        yield trace.masks(group, layer)
        return
    for window in range(len(trace.lengths)):
        yield trace.masks(group, layer, window)


def _missed(
    payload: Simulate,
    inputs: Mapping[str, Any],
    trace: Trace,
    group: str,
    layer: int,
    masks: NDArray[np.uint64],
) -> NDArray[np.bool_]:
    """Missed units bool [tokens, units] in the order in which they lie in Flash."""
    start = inputs["start"][group][layer] if "start" in inputs else None
    slots, units = payload["slots"][group], trace.units[group]
    missed = unpack(miss_masks(masks, slots, payload["policy"], start, units=units), units)
    return missed[:, inputs["order"][group][layer]] if "order" in inputs else missed
