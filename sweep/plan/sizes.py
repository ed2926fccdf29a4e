"""Bytes of a point: of its model, and of what its method needs beside it (SEMANTICS 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import methods
from methods.static.pruning import StaticPruning
from simulator import Footprint, Geometry, allocate, footprint
from sweep.plan.point import Point

MOST_PLACES = 6
"""Notes about devices where nothing is cached; of more, their number."""


def overhead_bytes(point: Point, geometry: Geometry) -> float:
    """Static bytes of the point's method in all layers.

    Weights of its own are stored with the bits of the model's; the mask of static pruning takes
    `mask_bits` for each MLP weight, kept or not.
    """
    method = methods.create(point.method, point.density, **dict(point.parameters))
    weights = method.overhead_weights(geometry.hidden, geometry.intermediate) * geometry.layers
    mask_bits = method.mask_bits if isinstance(method, StaticPruning) else 0.0
    mask = mask_bits / 8 * geometry.mlp_weights * geometry.layers
    return weights * point.storage.bytes_per_weight + mask


def footprint_of(point: Point, geometry: Geometry) -> Footprint:
    """Bytes of the point's model, its method's among them, as a device stores them."""
    overhead = overhead_bytes(point, geometry)
    return footprint(geometry, point.traits.groups, point.storage, overhead)


def cached_units(point: Point, geometry: Geometry) -> dict[str, int]:
    """Units of each pruned group that a layer's cache holds; none under the policy `none`."""
    sizes = footprint_of(point, geometry)
    if point.policy == "none":
        return dict.fromkeys(sizes.groups, 0)
    return dict(allocate(sizes, point.device.dram_gb * 1e9).slots)


def without_cache(point: Point) -> Point:
    """What a point is where its caches hold no unit (SEMANTICS 4): policy, start and scope change
    nothing, and cache-aware selection is top-k, as no unit is ever cached."""
    aware = point.selector == "cache-aware"
    return replace(
        point,
        policy="none",
        cache_start="empty",
        cache_scope="window",
        selector="topk" if aware else point.selector,
        gamma=1.0 if aware else point.gamma,
    )


def uncached_notes(points: Iterable[Point], title: Callable[[str], str]) -> list[str]:
    """A sentence for each model and DRAM size where caches were asked for and nothing is cached.
    `title` names a model."""
    methods_at: dict[tuple[str, str, float], dict[str, None]] = {}
    for point in points:
        place = point.model, point.device.name, point.device.dram_gb
        methods_at.setdefault(place, {})[point.method] = None
    notes = [
        f"nothing is cached for {', '.join(names)} on {title(model)} with {dram_gb:g} GB of DRAM "
        f"({device}): what every token uses leaves no room, so policy and γ change nothing there"
        for (model, device, dram_gb), names in methods_at.items()
    ]
    more = len(notes) - MOST_PLACES
    return notes if more <= 0 else [*notes[:MOST_PLACES], f"nothing is cached in {more} more"]
