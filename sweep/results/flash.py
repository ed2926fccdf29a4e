"""Columns about the reads of Flash, on devices that say what a read costs (SEMANTICS 9)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from simulator import Device, Footprint, Throughput
from simulator.energy import joules
from simulator.phase_reads import PhaseReads
from simulator.throughput import STREAMED_BYTES
from sweep.plan.point import Point


def columns(
    point: Point,
    reads: Mapping[str, PhaseReads],
    sizes: Footprint,
    tokens: int,
) -> dict[str, Any]:
    """Layout, reads, their mean size and what of them was not asked for."""
    row: dict[str, Any] = {"layout": point.layout if point.traits.groups else None}
    row["flash_law"] = json.dumps(law(point.device))
    count = sum(one.reads_total for one in reads.values())
    if count:
        read = sum(one.bytes_total for one in reads.values())
        wanted = sum(
            one.phases.missed_total * sizes.groups[name].unit_bytes for name, one in reads.items()
        )
        row |= {
            "reads_per_token": count / tokens,
            "mean_read_bytes": read / count,
            "wasted": max(0.0, 1 - wanted / read),
            "read_sizes": json.dumps({name: dict(one.sizes) for name, one in reads.items()}),
        }
    elif point.traits.groups:
        row |= {"reads_per_token": 0.0, "wasted": 0.0}
    return row


def law(device: Device) -> dict[str, Any]:
    """What a device says of reads, processor and head, from which a report prices counts anew: a
    law of latency and bandwidth, or the tables by reads in flight. `streamed_gbps` is that of long
    reads, by reads in flight where it depends on them."""
    further = {"compute_gbps": device.compute_gbps, "head_ms": device.head_ms}
    if not device.flash:
        return {"latency_us": device.latency_us, "gbps": device.flash_gbps, **further}
    tables: dict[str, Any] = {}
    for depth, cost in device.flash:
        streamed = STREAMED_BYTES / cost(STREAMED_BYTES) / 1e9
        tables[str(depth)] = {"rows": [list(row) for row in cost.rows], "streamed_gbps": streamed}
    return {"depth": device.io_depth, "tables": tables, **further}


def energy(device: Device, speed: Throughput) -> dict[str, Any]:
    """Joules of a token, between two ends; none where the device does not say what a byte takes."""
    ends = joules(
        device, speed.seconds_per_token, speed.flash_bytes_per_token, speed.dram_bytes_per_token
    )
    return {} if ends is None else {"energy_j_low": ends[0], "energy_j_high": ends[1]}
