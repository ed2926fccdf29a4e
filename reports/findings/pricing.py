"""The counts behind each point's speed, and the simulator's formula over them (SEMANTICS 5).

A bandwidth or a timing changes no count, so the page can price a point anew for any. The formula
here is that of `simulator.throughput`; a test holds both, and the page's own, to be equal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports.findings.points import Setting


@dataclass(frozen=True, slots=True)
class Group:
    """Reads of one weight group: `count[i]` phases used `used[i]` units and missed `missed[i]`.

    A phase is one token in one layer. `hits_by_percent` has the LRU hits with 0, 1, … 100 % of the
    units cached, and is empty for other policies.
    """

    name: str
    units: int
    layers: int
    unit_bytes: float
    slots: int
    used: tuple[int, ...]
    missed: tuple[int, ...]
    count: tuple[int, ...]
    used_by_layer: tuple[int, ...]
    hits_by_layer: tuple[int, ...]
    hits_by_percent: tuple[int, ...]

    @property
    def total_bytes(self) -> float:
        return self.units * self.unit_bytes * self.layers

    @property
    def tokens(self) -> float:
        return sum(self.count) / self.layers


Reads = tuple[Group, ...]


def parse(written: object) -> Reads | None:
    """The groups of a cell of the column `reads`; None where it is empty or cannot be read."""
    if not isinstance(written, str) or not written:
        return None
    try:
        document = json.loads(written)
        return tuple(_group(name, counts) for name, counts in document.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _group(name: str, counts: Mapping[str, Any]) -> Group:
    phases = counts["phases"]
    columns = [tuple(phases[key]) for key in ("used", "missed", "count")]
    if len({len(column) for column in columns}) != 1 or not columns[0]:
        raise ValueError(f"{name}: used, missed and count must be equally long")
    lists = ("used_by_layer", "hits_by_layer", "hits_by_percent")
    return Group(
        name,
        int(counts["units"]),
        int(counts["layers"]),
        float(counts["unit_bytes"]),
        int(counts["slots"]),
        *columns,
        *(tuple(counts.get(key) or ()) for key in lists),
    )


def speed_in(setting: Setting, groups: Reads, static_bytes: float) -> float:
    """Tokens per second of these reads on the device of a setting."""
    return tokens_per_s(
        groups,
        static_bytes,
        setting.dram_gb * 1e9,
        setting.flash_gbps * 1e9,
        setting.dram_gbps * 1e9,
        setting.timing,
    )


def tokens_per_s(
    groups: Reads,
    static_bytes: float,
    dram_bytes: float,
    flash_bytes_per_s: float,
    dram_bytes_per_s: float,
    timing: str,
) -> float:
    """Throughput of these reads: a static phase, and one for each layer and group."""

    def clock(flash_bytes: float, read_bytes: float) -> float:
        flash, dram = flash_bytes / flash_bytes_per_s, read_bytes / dram_bytes_per_s
        return max(flash, dram) if timing == "overlap" else flash + dram

    seconds = clock(max(0.0, static_bytes - dram_bytes), min(static_bytes, dram_bytes))
    for g in groups:
        phases = zip(g.used, g.missed, g.count, strict=True)
        total = sum(clock(m * g.unit_bytes, u * g.unit_bytes) * n for u, m, n in phases)
        seconds += total / g.tokens
    return 1 / seconds if seconds > 0 else math.inf
