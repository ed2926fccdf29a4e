"""What the table says of mixtures of experts (SEMANTICS 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simulator import (
    Device,
    Footprint,
    Geometry,
    PhaseCounts,
    Storage,
    Throughput,
    allocate,
    footprint,
    uniform_reads,
)
from simulator.experts import GROUP, Experts
from simulator.prefetch import PrefetchCounts
from sweep.plan.point import Point
from sweep.plan.sizes import part_of


def columns(
    point: Point,
    geometry: Geometry,
    sizes: Footprint,
    phases: Mapping[str, PhaseCounts],
    tokens: int,
    speed: Throughput,
    results: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Of a rule: its bias, swapped experts and misses, and what reading ahead would give. Nothing
    of other points."""
    if not point.traits.routes:
        return {}
    shards = list(results)
    figures = [result["routing"] for result in shards]
    used, swapped = (sum(figure[name] for figure in figures) for name in ("used", "swapped"))
    counts = phases[GROUP]
    read = sizes.groups[GROUP].unit_bytes * part_of(point, geometry)[GROUP]
    return {
        "lam": dict(point.parameters).get("lam"),
        "swaps": swapped / used,
        "misses_per_token": counts.missed_total / tokens,
        "pool": point.pool,
        **_ahead(point, tokens, shards, read, speed),
    }


def _ahead(
    point: Point,
    tokens: int,
    results: list[Mapping[str, Any]],
    unit_bytes: float,
    speed: Throughput,
) -> dict[str, Any]:
    """Speed where announced experts are read while the layer before computes, and bytes that are
    read in vain; the static phase is as without."""
    if "prefetch" not in results[0]:
        return {}
    first, *others = (PrefetchCounts.from_json(result["prefetch"]) for result in results)
    counts = first.merge(others)
    seconds = speed.static_seconds + counts.seconds(point.device, unit_bytes) / tokens
    return {
        "tokens_per_s_ahead": 1 / seconds,
        "wasted_bytes_per_token": counts.wasted * unit_bytes / tokens,
    }


def uniform(
    geometry: Geometry, storage: Storage, device: Device, tokens: int
) -> dict[str, PhaseCounts]:
    """What the model as it is reads where nothing is known of its routing: of the experts as many
    are in DRAM as fit, whichever, and a token uses each as often as any other. Nothing of a model
    without experts."""
    experts = geometry.experts
    if experts is None:
        return {}
    fraction = allocate(footprint(geometry, [GROUP], storage), device.dram_bytes).fraction
    share = experts.chosen / experts.count
    return {GROUP: uniform_reads(share, fraction, experts.count, experts.layers, tokens)}


def linear_density(geometry: Geometry, experts: Experts, mlp_density: float) -> float:
    """Weights of attention and MLPs that a token uses, over all of them, without routers;
    `mlp_density` is that of the experts which the router chooses."""
    dense = geometry.dense_layers * geometry.mlp_weights
    dense += experts.layers * 3 * geometry.hidden * experts.shared
    always = geometry.mixer_weights + dense
    routed = geometry.expert_weights
    used = always + mlp_density * experts.chosen / experts.count * routed
    return used / (always + routed)
