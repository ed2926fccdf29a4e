"""Time of a token whose next layers are read while earlier ones compute (SEMANTICS 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import whole
from simulator.device import Device
from simulator.errors import SimulatorError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Preloading:
    """Seconds of each token, float64 `[tokens]`, and where they go.

    `seconds` are `computing + waiting + demanding`: what the processor needs, what it waits for
    preloads that take longer than the layers before them, and reads of what was not announced.
    """

    computing: Floats
    waiting: Floats
    demanding: Floats

    @property
    def seconds(self) -> Floats:
        """Seconds of each token."""
        return self.computing + self.waiting + self.demanding


def preloading(
    announced_bytes: ArrayLike,
    used_bytes: ArrayLike,
    demanded_bytes: ArrayLike,
    device: Device,
    span: int = 1,
    *,
    announced_seconds: ArrayLike | None = None,
    demanded_seconds: ArrayLike | None = None,
) -> Preloading:
    """Time by `max(compute, preload) + on demand`, all arrays `[tokens, layers]`.

    `announced_bytes` of a layer are announced for it and not in the cache, `used_bytes` all that it
    uses, `demanded_bytes` used and neither cached nor announced. Layers go in steps of `span`,
    whose masks are announced together: while a step computes, the next one is preloaded; nothing
    hides the preload of the first. A step computes for the longer of its used bytes over
    `dram_gbps` and over `compute_gbps`, where the device has one. What is read on demand is waited
    for, and preloading pauses meanwhile.

    Reads take their `..._seconds` where these are given (`simulator.reads`); else bytes over
    `flash_gbps`, or on a device that says what a read costs one read a layer, which is the least.
    Raises SimulatorError for shapes that differ and for negative numbers.
    """
    announced, used, demanded = (
        _matrix(name, values)
        for name, values in (
            ("announced_bytes", announced_bytes),
            ("used_bytes", used_bytes),
            ("demanded_bytes", demanded_bytes),
        )
    )
    preload = _read_seconds(announced, device, announced_seconds, "announced_seconds")
    demand = _read_seconds(demanded, device, demanded_seconds, "demanded_seconds")
    if not announced.shape == used.shape == demanded.shape == preload.shape == demand.shape:
        raise SimulatorError("preloading: the arrays differ in shape [tokens, layers]")
    rate = min(device.dram_gbps, device.compute_gbps or np.inf) * 1e9
    steps = np.arange(0, used.shape[1], whole("span", span, 1))
    compute = np.add.reduceat(used, steps, axis=1) / rate
    loading = np.add.reduceat(preload, steps, axis=1)
    later = np.maximum(loading[:, 1:] - compute[:, :-1], 0.0)
    return Preloading(compute.sum(axis=1), loading[:, 0] + later.sum(axis=1), demand.sum(axis=1))


def _matrix(name: str, values: ArrayLike) -> Floats:
    matrix = np.asarray(values, np.float64)
    if matrix.ndim != 2 or matrix.shape[1] < 1:
        raise SimulatorError(f"{name} has shape {matrix.shape}; it must be [tokens, layers]")
    if not (matrix >= 0).all():
        raise SimulatorError(f"{name} has a value that is not at least 0")
    return matrix


def _read_seconds(
    read_bytes: Floats, device: Device, seconds: ArrayLike | None, name: str
) -> Floats:
    if seconds is not None:
        return _matrix(name, seconds)
    cost = device.read_cost()
    return read_bytes / (device.flash_gbps * 1e9) if cost is None else cost(read_bytes)
