"""Reading, with the sizes of the reads: for devices whose tables differ by the reads in flight.

It is a simulation by its kind and counts as `sweep.tasks.reads` does; beside each group's counts
stand the classes of size of its reads, by which a report prices them at another depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.read_classes import Rows, merged, octaves, reads_by_class
from sweep.tasks.reads import group_counts

if TYPE_CHECKING:
    from simulator.read_plans import Totals
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
    classes: list[Rows] = []

    def count(*missed: Any) -> tuple[Totals, dict[int, int]]:
        columns, sizes = reads_by_class(*missed)
        classes.append(sizes)
        return columns, octaves(sizes)

    counted = group_counts(payload, inputs, trace, group, count)
    return counted | {"classes": merged(classes)}
