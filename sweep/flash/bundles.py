"""What is read ahead in bundles over layers, and what on demand, on the trace of an evaluation.

It is a simulation by its kind: its groups are those of one that counts reads, and beside them
stands what the time of its steps depends on (SEMANTICS 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulator.bundles import Bundled, PreloadCounts, bundled
from simulator.packing import unpack
from simulator.phase_reads import phase_reads
from sweep.read_prices import cost_of

if TYPE_CHECKING:
    from simulator.trace import Trace
    from sweep.tasks.payloads import Simulate


def reads(
    payload: Simulate, where: Mapping[str, str], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], None]:
    """Used, hit and missed units of each group, their reads, and the steps under `preload`.

    The cache holds the same units for good, so windows depend on each other in nothing.
    """
    trace: Trace = inputs["trace"]
    span = _span(payload)
    groups = {group: _group(payload, inputs, trace, group) for group in trace.units}
    results = {group: _result(payload, group, one) for group, one in groups.items()}
    return {"groups": results, "preload": PreloadCounts.of(groups, span).to_json()}, None


def _group(payload: Simulate, inputs: Mapping[str, Any], trace: Trace, group: str) -> Bundled:
    assert "reads" in payload
    asked, units = payload["reads"], trace.units[group]
    layers = range(trace.layers)
    masks = [unpack(trace.masks(group, layer), units) for layer in layers]
    residents = [_resident(payload, inputs, group, layer, units) for layer in layers]
    orders = inputs["order"][group] if "order" in inputs else None
    sizes = asked["groups"][group]
    options = (_span(payload), sizes["unit_bytes"], cost_of(sizes))
    return bundled(masks, residents, *options, asked["align_bytes"], orders)


def _span(payload: Simulate) -> int:
    assert "preload_layers" in payload  # or another function does the task
    return payload["preload_layers"]


def _resident(
    payload: Simulate, inputs: Mapping[str, Any], group: str, layer: int, units: int
) -> NDArray[np.bool_]:
    resident = np.zeros(units, np.bool_)
    if payload["policy"] != "none":
        resident[inputs["start"][group][layer][: payload["slots"][group]]] = True
    return resident


def _result(payload: Simulate, group: str, one: Bundled) -> dict[str, Any]:
    """As `sweep.tasks.reads` has it: the bundles of a step count for its first layer."""
    assert "reads" in payload
    places = np.arange(0, one.used.shape[1], _span(payload))
    sums = {name: getattr(one.demand, name).copy() for name in ("reads", "bytes", "seconds")}
    for name, column in sums.items():
        column[:, places] += getattr(one.ahead, name)
    sizes = dict(one.demand.sizes)
    for size, count in one.ahead.sizes.items():
        sizes[size] = sizes.get(size, 0) + count
    columns = (one.used, one.missed, sums["reads"], sums["bytes"], sums["seconds"])
    merged = phase_reads(*columns, sizes).to_json()
    if "table" not in payload["reads"]["groups"][group]:
        del merged["seconds"]  # a device's latency and bandwidth say them
    used, missed = one.used.sum(axis=0), one.missed.sum(axis=0)
    by_layer = {"used_by_layer": used.tolist(), "hits_by_layer": (used - missed).tolist()}
    return {**merged, **by_layer}
