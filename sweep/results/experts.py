"""What the table says of mixtures of experts (SEMANTICS 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simulator import Device, Geometry, PhaseCounts, Storage, allocate, footprint, uniform_reads
from simulator.experts import GROUP, Experts
from sweep.plan.point import Point


def columns(
    point: Point,
    phases: Mapping[str, PhaseCounts],
    tokens: int,
    results: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Of a rule: its bias, swapped experts and misses; nothing of other points."""
    if not point.traits.routes:
        return {}
    figures = [result["routing"] for result in results]
    used, swapped = (sum(figure[name] for figure in figures) for name in ("used", "swapped"))
    counts = phases[GROUP]
    return {
        "lam": dict(point.parameters).get("lam"),
        "swaps": swapped / used,
        "misses_per_token": counts.missed_total / tokens,
        "pool": point.pool,
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
