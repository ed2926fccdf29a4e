"""Speed of points whose next layers are read ahead while earlier ones compute (SEMANTICS 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from simulator import Footprint, Throughput
from simulator.bundles import PreloadCounts
from sweep.plan.point import Point


def speed(
    point: Point,
    plain: Throughput,
    sizes: Footprint,
    tokens: int,
    results: Iterable[Mapping[str, Any]],
) -> Throughput:
    """`plain`, where nothing is read ahead; else the static phase as there, and the time of the
    steps: `max(compute, preload) + on demand`."""
    if not point.preload_layers:
        return plain
    first, *others = (PreloadCounts.from_json(result["preload"]) for result in results)
    unit_bytes = {name: sizes.groups[name].unit_bytes for name in first.groups}
    steps = first.merge(others).seconds(point.device, unit_bytes, point.timing == "overlap")
    seconds = plain.static_seconds + steps / tokens
    return replace(plain, tokens_per_s=1 / seconds, seconds_per_token=seconds)
