"""Reading, with the sizes of the reads: for devices whose tables differ by the reads in flight.

It is a simulation by its kind and counts as `sweep.tasks.reads` does; beside each group's counts
stand the classes of size of its reads, by which a report prices them at another depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.phase_reads import PhaseReads, phase_reads
from simulator.read_classes import Rows, merged, octaves, reads_by_class
from sweep.read_prices import cost_of
from sweep.tasks.reads import _missed, _sessions

if TYPE_CHECKING:
    from simulator.trace import Trace
    from sweep.tasks.payloads import Simulate


def reads(
    payload: Simulate, where: Mapping[str, str], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group for the trace in `inputs`, their reads, and the
    classes of size of these."""
    trace: Trace = inputs["trace"]
    return {"groups": {group: _group(payload, inputs, trace, group) for group in trace.units}}, None


def _group(
    payload: Simulate, inputs: Mapping[str, Any], trace: Trace, group: str
) -> dict[str, Any]:
    assert "reads" in payload  # or another function does the task
    asked = payload["reads"]
    priced = (asked["groups"][group]["unit_bytes"], cost_of(asked["groups"][group]))
    parts, classes = list[PhaseReads](), list[Rows]()
    used_by_layer, hits_by_layer = [], []
    for layer in range(trace.layers):
        used_total = missed_total = 0
        for masks in _sessions(trace, group, layer, payload["scope"]):
            used = np.bitwise_count(masks).sum(axis=-1, dtype=np.int64)
            missed = _missed(payload, inputs, trace, group, layer, masks)
            columns, sizes = reads_by_class(missed, *priced, asked["align_bytes"])
            counts = missed.sum(axis=-1, dtype=np.int64)
            parts.append(phase_reads(used, counts, *columns, octaves(sizes)))
            classes.append(sizes)
            used_total, missed_total = used_total + used.sum(), missed_total + counts.sum()
        used_by_layer.append(int(used_total))
        hits_by_layer.append(int(used_total - missed_total))
    by_layer = {"used_by_layer": used_by_layer, "hits_by_layer": hits_by_layer}
    return {**parts[0].merge(parts[1:]).to_json(), "classes": merged(classes), **by_layer}
