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

STREAMED_BYTES = 4 * 2**20
"""Of a read of what is streamed, as in `simulator.throughput`."""


@dataclass(frozen=True, slots=True)
class Came:
    """Reads, their bytes and, of a measured table, their seconds, each as long as the counts; and
    how many reads have so many bytes and more, by powers of two. `classes` are narrower: the mean
    bytes of each and its reads, of devices with several tables; none in older runs."""

    reads: tuple[int, ...]
    bytes: tuple[float, ...]
    seconds: tuple[float, ...]
    sizes: tuple[tuple[int, int], ...]
    classes: tuple[tuple[float, int], ...] = ()


Law = Mapping[str, Any]
"""What a device says of its reads: the column `flash_law`."""


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
    came: Came | None = None
    """Where a read has a cost: of the phases of each pair together."""
    share: float | None = None
    """Of the caches' bytes, where groups do not share them by their own."""

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
        came=_came(counts["came"]) if "came" in counts else None,
        share=counts.get("share"),
    )


def _came(counts: Mapping[str, Any]) -> Came:
    reads, read_bytes, seconds = (
        tuple(counts.get(name) or ()) for name in ("reads", "bytes", "seconds")
    )
    sizes = tuple((int(size), int(n)) for size, n in counts["sizes"].items())
    classes = tuple((float(size) / int(n), int(n)) for _, n, size in counts.get("classes") or ())
    return Came(reads, read_bytes, seconds, sizes, classes)


def law_of(written: object) -> Law | None:
    """A cell of the column `flash_law`; None where the device is the paper's."""
    return json.loads(written) if isinstance(written, str) and written else None


def speed_in(setting: Setting, groups: Reads, static_bytes: float, law: Law | None = None) -> float:
    """Tokens per second of these reads on the device of a setting."""
    return tokens_per_s(
        groups,
        static_bytes,
        setting.dram_gb * 1e9,
        setting.flash_gbps * 1e9,
        setting.dram_gbps * 1e9,
        setting.timing,
        law,
    )


def tokens_per_s(
    groups: Reads,
    static_bytes: float,
    dram_bytes: float,
    flash_bytes_per_s: float,
    dram_bytes_per_s: float,
    timing: str,
    law: Law | None = None,
) -> float:
    """Throughput of these reads: a static phase, and one for each layer and group. By a `law`,
    reads cost what it says; of a table, what they cost when they were counted."""
    compute = ((law or {}).get("compute_gbps") or math.inf) * 1e9

    def clock(flash: float, read_bytes: float, other: float = 0.0) -> float:
        dram = read_bytes / dram_bytes_per_s
        moved = max(flash, dram) if timing == "overlap" else flash + dram
        return max(moved, (read_bytes + other) / compute)

    excess = max(0.0, static_bytes - dram_bytes)
    streamed = excess / _streamed(law, flash_bytes_per_s)
    seconds = clock(streamed, min(static_bytes, dram_bytes), excess)
    seconds += (law or {}).get("head_ms", 0.0) * 1e-3
    for g in groups:
        flash = _flash_seconds(g, law, flash_bytes_per_s)
        phases = zip(flash, g.used, g.count, strict=True)
        seconds += sum(clock(f, u * g.unit_bytes) * n for f, u, n in phases) / g.tokens
    return 1 / seconds if seconds > 0 else math.inf


def _streamed(law: Law | None, flash_bytes_per_s: float) -> float:
    """Bytes per second of long reads."""
    if law is None:
        return flash_bytes_per_s
    if "tables" in law:
        return _table(law)["streamed_gbps"] * 1e9
    return STREAMED_BYTES / (law["latency_us"] * 1e-6 + STREAMED_BYTES / flash_bytes_per_s)


def _table(law: Law) -> Mapping[str, Any]:
    """That of the most reads in flight that are not above the device's."""
    measured = sorted(map(int, law["tables"]))
    below = [depth for depth in measured if depth <= law["depth"]] or measured[:1]
    return law["tables"][str(below[-1])]


def _flash_seconds(group: Group, law: Law | None, flash_bytes_per_s: float) -> list[float]:
    """Seconds of Flash of a phase of each pair."""
    came = group.came
    if law is None or came is None:
        return [missed * group.unit_bytes / flash_bytes_per_s for missed in group.missed]
    if "tables" in law:
        return [s / n for s, n in zip(came.seconds, group.count, strict=True)]
    latency = law["latency_us"] * 1e-6
    reads = zip(came.reads, came.bytes, group.count, strict=True)
    return [(r * latency + size / flash_bytes_per_s) / n for r, size, n in reads]
