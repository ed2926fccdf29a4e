"""Tokens per second that policies make of a trace file on devices, by the formula of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import InputError

if TYPE_CHECKING:
    from simulator import Device, Footprint, Geometry, Storage
    from simulator.tracefile import TraceFile


@dataclass(frozen=True, slots=True)
class Speed:
    """What one policy makes of a trace on a device, with the slots that its DRAM leaves."""

    policy: str
    device: Device
    slots: dict[str, int]
    hit_rate: float | None
    flash_bytes_per_token: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class _Model:
    """Sizes of the trace's model, how its weights are stored, and the method's own bytes."""

    geometry: Geometry
    storage: Storage
    overhead_bytes: float


def devices_of(name: str, dram_gb: Sequence[float], changes: Mapping[str, Any]) -> list[Device]:
    """A preset, or a device of the figures given, with each of these sizes of DRAM."""
    from simulator import Device

    figures = {key: value for key, value in changes.items() if value is not None}
    sizes: list[dict[str, float]] = [{"dram_gb": size} for size in dram_gb] or [{}]
    return [Device.load({"device": name, **figures, **size}) for size in sizes]


def try_devices(
    path: Path,
    policies: Iterable[str],
    devices: Iterable[Device],
    scope: str = "window",
    model: str | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> list[Speed]:
    """Tokens per second of every policy on every device (SEMANTICS 5).

    The sizes are those of `model`, or else those that the trace names. `step` is told what is
    simulated next, and nothing at the end. Raises InputError where the sizes are not known, or not
    those of the trace's units and layers.
    """
    from simulator.tracefile import TraceFile

    speeds = []
    with TraceFile(path) as trace:
        sized = _model(trace, path, model)
        sizes = _footprint(trace, path, sized)
        for device, policy in product(list(devices), list(policies)):
            step(f"{policy} on {device.name} with {device.dram_gb:g} GB")
            speeds.append(_speed(trace, sized, sizes, device, policy, scope))
    step("")
    return speeds


def _speed(
    trace: TraceFile, sized: _Model, sizes: Footprint, device: Device, policy: str, scope: str
) -> Speed:
    from simulator import allocate, throughput
    from simulator.policies import policy_class
    from simulator.simulation import simulate_trace

    slots = dict(allocate(sizes, device.dram_bytes).slots)
    if not policy_class(policy).caches:
        slots = dict.fromkeys(slots, 0)
    counts = simulate_trace(trace, policy, slots, scope)
    phases = {group: count.phases for group, count in counts.items()}
    arguments = (sized.geometry, device, phases, trace.tokens, sized.storage, sized.overhead_bytes)
    speed = throughput(*arguments)
    flash = speed.flash_bytes_per_token
    return Speed(policy, device, slots, speed.hit_rate, flash, speed.tokens_per_s)


def _footprint(trace: TraceFile, path: Path, sized: _Model) -> Footprint:
    """Bytes of the model, whose units and layers must be those of the trace."""
    from simulator import footprint

    geometry = sized.geometry
    sizes = footprint(geometry, trace.units, sized.storage, sized.overhead_bytes)
    units = {group: size.units for group, size in sizes.groups.items()}
    if units != trace.units or geometry.layers != trace.layers:
        raise InputError(
            f"{path} has {trace.layers} layers of {_listed(trace.units)}; the model has "
            f"{geometry.layers} of {_listed(units)}"
        )
    return sizes


def _listed(units: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {group}" for group, count in units.items())


def _model(trace: TraceFile, path: Path, model: str | None) -> _Model:
    from simulator import Geometry, SimulatorError, Storage
    from simulator.geometry import FileBits

    if model is not None:
        from sweep.inputs import model_sizes

        return _Model(model_sizes.geometry(model), Storage(), 0.0)
    about = trace.about
    try:
        geometry = Geometry.load(about["geometry"])
        storage = dict(about["storage"])
        bits = storage.pop("file", None)
        stored = Storage(**storage, file=FileBits(**bits) if bits else None)
        return _Model(geometry, stored, float(about["overhead_bytes"]))
    except (KeyError, TypeError, ValueError, SimulatorError):
        raise InputError(
            f"{path} does not say which sizes its model has, which tokens per second need: "
            "give --model"
        ) from None
