"""Bytes of a point: of its model, and of what its method needs beside it (SEMANTICS 2)."""

from __future__ import annotations

import json
from collections.abc import Iterable

import methods
from methods.shared import Shared
from methods.static.pruning import StaticPruning
from simulator import Footprint, Geometry, Storage, footprint
from sweep.plan.point import Point, Quant
from sweep.plan.weight_steps import quant_label


def overhead_bytes(point: Point, geometry: Geometry, storage: Storage) -> float:
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
    return weights * storage.bytes_per_weight + 2.0 * numbers * geometry.layers + mask


def footprint_of(point: Point, geometry: Geometry, storage: Storage) -> Footprint:
    """Bytes of the point's model, its method's among them, as a device stores them."""
    overhead = overhead_bytes(point, geometry, storage)
    return footprint(geometry, point.traits.groups, storage, overhead)


def planned_sizes(geometry: Geometry) -> str:
    """As JSON, what a loaded model must have (`sweep.tasks.as_planned`)."""
    names = ("layers", "hidden", "intermediate", "tied_embeddings")
    return json.dumps({name: getattr(geometry, name) for name in names})


NOTABLE = 0.1
"""Share by which simulated bytes may differ from those of the files before it is said."""


def groupby_model(points: Iterable[Point]) -> dict[str, list[Point]]:
    """By model, a point for each way in which its weights are stored."""
    models: dict[str, dict[Quant, Point]] = {}
    for point in points:
        if not point.traits.static:
            models.setdefault(point.model, {}).setdefault(point.quant, point)
    return {model: list(of_model.values()) for model, of_model in models.items()}


def difference(model: str, counted: float, in_files: float, quant: Quant) -> str:
    """One sentence where the bytes that are counted are not those of the files; else empty."""
    if abs(counted / in_files - 1) <= NOTABLE:
        return ""
    label = quant_label(quant.method, quant.bits, quant.group_size, dict(quant.parameters))
    return (
        f"model {model}: {counted / 1e9:.3g} GB of weights are simulated ({label}), its files have "
        f"{in_files / 1e9:.3g} GB; quant {{method: none, bits: file}} counts those of the files"
    )
