"""Bytes that a method needs beside the model: predictors (SEMANTICS 2)."""

from __future__ import annotations

import methods
from simulator import Geometry
from sweep.grid import Point


def overhead_bytes(point: Point, geometry: Geometry) -> float:
    """Static bytes of the point's method in all layers, stored with the bits of the weights."""
    method = methods.create(point.method, point.density, **dict(point.parameters))
    weights = method.overhead_weights(geometry.hidden, geometry.intermediate) * geometry.layers
    return weights * point.storage.bytes_per_weight
