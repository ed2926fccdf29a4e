"""Bytes of a point: of its model, and of what its method needs beside it (SEMANTICS 2)."""

from __future__ import annotations

import methods
from methods.shared import Shared
from methods.static.pruning import StaticPruning
from simulator import Footprint, Geometry, footprint
from sweep.plan.point import Point


def overhead_bytes(point: Point, geometry: Geometry) -> float:
    """Static bytes of the point's method in all layers.

    Weights of its own are stored with the bits of the model's, numbers as norms with 16; the mask
    of static pruning takes `mask_bits` for each MLP weight, kept or not.
    """
    method = methods.create(point.method, point.density, **dict(point.parameters))
    sizes = (geometry.hidden, geometry.intermediate)
    weights = method.overhead_weights(*sizes) * geometry.layers
    numbers = method.resident_numbers(*sizes) if isinstance(method, Shared) else 0
    mask_bits = method.mask_bits if isinstance(method, StaticPruning) else 0.0
    mask = mask_bits / 8 * geometry.mlp_weights * geometry.layers
    return weights * point.storage.bytes_per_weight + 2.0 * numbers * geometry.layers + mask


def footprint_of(point: Point, geometry: Geometry) -> Footprint:
    """Bytes of the point's model, its method's among them, as a device stores them."""
    overhead = overhead_bytes(point, geometry)
    return footprint(geometry, point.traits.groups, point.storage, overhead)
