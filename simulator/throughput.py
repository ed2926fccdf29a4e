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
from simulator.phase_reads import PhaseReads
from simulator.phases import PhaseCounts
from simulator.read_cost import ReadCost

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
    *,
    chunk: int = 1,
    reads: Mapping[str, PhaseReads] | None = None,
    parts: Mapping[str, float] | None = None,
) -> Throughput:
    """Speed of a method whose pruned `groups` read what their PhaseCounts say in `tokens` tokens.

    A token takes its static phase and one phase for each layer and group; a phase takes
    max(Flash bytes / Flash bandwidth, DRAM bytes / DRAM bandwidth) with `overlap`, their sum with
    `serial` (default: the device's). Empty `groups` is the dense model. Units are counted in
    chunks of `chunk`. Of a group in `parts`, a token uses and reads that share of each unit
    (neurons inside of experts); the cache holds whole units. Raises SimulatorError if the counts
    are not those of `tokens` tokens in every layer.

    On a device that says what a read costs, the Flash time of a phase is that of its `reads`, and
    what is streamed for each token comes in reads of `STREAMED_BYTES` (SEMANTICS 9); a phase takes
    at least what the processor needs for the bytes that it uses, where the device says that. The
    phases of one pair of used and missed units are taken at their mean.
    """
    if not tokens > 0:
        raise SimulatorError(f"tokens is {tokens!r}; it must be above 0")
    timing = timing or device.timing
    check_timing(timing)
    sizes = footprint(geometry, groups, storage, overhead_bytes).in_chunks(chunk)
    _check(groups, sizes, tokens)
    room = allocate(sizes, device.dram_bytes)
    touched = {
        name: group.unit_bytes * (parts or {}).get(name, 1.0)
        for name, group in sizes.groups.items()
    }
    clock = _Clock.of(device, timing)
    static = clock.static(room.excess_bytes, room.resident_bytes) + device.head_ms * 1e-3
    seconds = {
        name: clock.seconds(counts, touched[name], (reads or {}).get(name)) / tokens
        for name, counts in groups.items()
    }
    flash = sum(
        (reads or {})[name].bytes_total
        if name in (reads or {})
        else counts.missed_total * touched[name]
        for name, counts in groups.items()
    )
    dram = sum(r.used_total * touched[name] for name, r in groups.items())
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


STREAMED_BYTES = 4 * 2**20
"""Of a read of what is streamed: long ones, of neighbouring bytes."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """Seconds of phases on a device."""

    flash_bytes_per_s: float
    """Of what is streamed, and of all reads where these have no cost of their own."""
    dram_bytes_per_s: float
    compute_bytes_per_s: float
    """Infinite where the device does not say what its processor can take."""
    overlap: bool
    cost: ReadCost | None

    @classmethod
    def of(cls, device: Device, timing: str) -> _Clock:
        cost, speed = device.read_cost(), device.flash_gbps * 1e9
        if cost is not None:
            speed = STREAMED_BYTES / cost(STREAMED_BYTES)
        compute = device.compute_gbps * 1e9 if device.compute_gbps else np.inf
        return cls(speed, device.dram_gbps * 1e9, compute, timing == "overlap", cost)

    def static(self, excess_bytes: float, resident_bytes: float) -> float:
        """Seconds of what every token uses."""
        flash = np.array([excess_bytes / self.flash_bytes_per_s])
        return float(self._phase(flash, np.array([resident_bytes]), excess_bytes)[0])

    def seconds(self, counts: PhaseCounts, unit_bytes: float, reads: PhaseReads | None) -> float:
        """Seconds of all phases of a group, by its reads where they were counted."""
        used = counts.used * unit_bytes
        if reads is None or self.cost is None:
            missed = counts.missed * unit_bytes
            return float((self._phase(missed / self.flash_bytes_per_s, used) * counts.count).sum())
        count = np.maximum(reads.phases.count, 1)
        flash = reads.priced(self.cost).seconds / count
        return float((self._phase(flash, reads.phases.used * unit_bytes) * count).sum())

    def _phase(self, flash_seconds: Floats, dram_bytes: Floats, other: float = 0.0) -> Floats:
        """Of phases that use `dram_bytes`, and `other` bytes that do not come from DRAM."""
        dram = dram_bytes / self.dram_bytes_per_s
        moved = np.maximum(flash_seconds, dram) if self.overlap else flash_seconds + dram
        if np.isinf(self.compute_bytes_per_s):
            return moved
        return np.maximum(moved, (dram_bytes + other) / self.compute_bytes_per_s)


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
