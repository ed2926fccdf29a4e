"""Tokens per second, a formula over what was read (SEMANTICS 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.device import Device, check_timing
from simulator.errors import SimulatorError
from simulator.footprint import Footprint, allocate, footprint
from simulator.geometry import Geometry, Storage
from simulator.phases import PhaseCounts

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens per second and its parts, all per token.

    `hit_rate` is hits over used units, of all groups together; None where nothing is cached
    because nothing is pruned.
    """

    tokens_per_s: float
    seconds_per_token: float
    static_seconds: float
    group_seconds: Mapping[str, float]
    flash_bytes_per_token: float
    dram_bytes_per_token: float
    hit_rate: float | None
    cache_fraction: float


def throughput(
    geometry: Geometry,
    device: Device,
    groups: Mapping[str, PhaseCounts],
    tokens: float,
    storage: Storage | None = None,
    overhead_bytes: float = 0,
    timing: str | None = None,
) -> Throughput:
    """Speed of a method whose pruned `groups` read what their PhaseCounts say in `tokens` tokens.

    A token takes its static phase and one phase for each layer and group; a phase takes
    max(Flash bytes / Flash bandwidth, DRAM bytes / DRAM bandwidth) with `overlap`, their sum with
    `serial` (default: the device's). Empty `groups` is the dense model. Raises SimulatorError if
    the counts are not those of `tokens` tokens in every layer.
    """
    if not tokens > 0:
        raise SimulatorError(f"tokens is {tokens!r}; it must be above 0")
    timing = timing or device.timing
    check_timing(timing)
    sizes = footprint(geometry, groups, storage, overhead_bytes)
    _check(groups, sizes, tokens)
    room = allocate(sizes, device.dram_bytes)
    clock = _Clock(device.flash_gbps * 1e9, device.dram_gbps * 1e9, timing == "overlap")
    static = float(clock(np.array([room.excess_bytes]), np.array([room.resident_bytes]))[0])
    seconds = {
        name: float((clock.reads(reads, sizes.groups[name].unit_bytes) * reads.count).sum())
        / tokens
        for name, reads in groups.items()
    }
    flash = sum(r.missed_total * sizes.groups[name].unit_bytes for name, r in groups.items())
    dram = sum(r.used_total * sizes.groups[name].unit_bytes for name, r in groups.items())
    used = sum(reads.used_total for reads in groups.values())
    total = static + sum(seconds.values())
    return Throughput(
        tokens_per_s=1 / total,
        seconds_per_token=total,
        static_seconds=static,
        group_seconds=seconds,
        flash_bytes_per_token=room.excess_bytes + flash / tokens,
        dram_bytes_per_token=room.resident_bytes + dram / tokens,
        hit_rate=sum(r.hits_total for r in groups.values()) / used if used else None,
        cache_fraction=room.fraction,
    )


@dataclass(frozen=True, slots=True)
class _Clock:
    flash_bytes_per_s: float
    dram_bytes_per_s: float
    overlap: bool

    def __call__(self, flash_bytes: Floats, dram_bytes: Floats) -> Floats:
        flash, dram = flash_bytes / self.flash_bytes_per_s, dram_bytes / self.dram_bytes_per_s
        return np.maximum(flash, dram) if self.overlap else flash + dram

    def reads(self, reads: PhaseCounts, unit_bytes: float) -> Floats:
        return self(reads.missed * unit_bytes, reads.used * unit_bytes)


def _check(groups: Mapping[str, PhaseCounts], sizes: Footprint, tokens: float) -> None:
    for name, reads in groups.items():
        size = sizes.groups[name]
        if abs(reads.phases - tokens * size.layers) > 1e-6 * max(1, reads.phases):
            raise SimulatorError(
                f"group {name!r} has {reads.phases} phases; {tokens} tokens in "
                f"{size.layers} layers make {tokens * size.layers}"
            )
        if reads.used.size and reads.used.max() > size.units:
            raise SimulatorError(
                f"group {name!r} uses {reads.used.max()} units of {size.units} in one phase"
            )
