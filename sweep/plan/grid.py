"""From a sweep to its points: each method entry expands by itself, duplicates fall together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import methods
from methods.registry import method_class
from simulator.device import Device
from simulator.geometry import Geometry, Storage
from simulator.policies import CACHE_AWARE
from sweep.errors import InputError
from sweep.keys import digest
from sweep.plan.exclude import excluded_by
from sweep.plan.weight_steps import is_static, quantiser, refusal
from sweep.spec.entries import (
    ALIASES,
    DeviceEntry,
    MethodEntry,
    ModelEntry,
    QuantEntry,
    Sweep,
)

MAX_POINTS = 1_000_000

Parameters = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Quant:
    """What is done to the weights, and the bits that the simulator counts for them.

    `parameters` holds all of the quantiser's own parameters, defaults included, sorted by name.
    """

    method: str = "none"
    bits: float = 4
    group_size: int = 128
    embedding_bits: float = 4
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What perplexity is measured on and how. `windows` None is the whole text."""

    text: str
    calibration: str
    windows: int | None
    window_tokens: int
    shard_windows: int
    dtype: str
    threads: int
    seed: int

    def to_mapping(self) -> dict[str, str | int | None]:
        """The fields as a plain mapping."""
        return {field: getattr(self, field) for field in self.__slots__}


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration whose perplexity and tokens per second the user asks for.

    `parameters` holds all of the method's own parameters, defaults included, sorted by name.
    A dense point, and one whose policy is `none`, has the start and scope of a cold cache.
    """

    sweep: str
    model: str
    quant: Quant
    method: str
    density: float
    parameters: Parameters
    selector: str
    gamma: float
    policy: str
    device: Device
    cache_start: str
    cache_scope: str
    timing: str
    accuracy: Accuracy
    kv_bits: float = 8
    kv_tokens: int = 2048
    geometry: Geometry | None = None
    """Sizes given in the sweep file; None leaves them to the model."""

    @property
    def key(self) -> str:
        """16 hexadecimal digits over everything but the sweep's name and the device's prose."""
        device, quant = self.device, self.quant
        speeds = [device.dram_gb, device.flash_gbps, device.dram_gbps, self.timing]
        return digest(
            {
                "model": self.model,
                "geometry": self.geometry and self.geometry.to_mapping(),
                "quant": [getattr(quant, name) for name in quant.__slots__],
                "method": [self.method, self.density, self.parameters],
                "selector": [self.selector, self.gamma],
                "cache": [self.policy, self.cache_start, self.cache_scope],
                "device": [device.name, *speeds],
                "accuracy": self.accuracy.to_mapping(),
                "kv": [self.kv_bits, self.kv_tokens],
            }
        )

    @property
    def storage(self) -> Storage:
        """How the simulator stores the weights and the KV cache of this point."""
        return Storage(
            bits=self.quant.bits,
            group_size=self.quant.group_size,
            embedding_bits=self.quant.embedding_bits,
            kv_bits=self.kv_bits,
            kv_tokens=self.kv_tokens,
            mlp_share=self.density if is_static(self.method) else 1,
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """Points that were asked for and make no sense, or that a rule excludes."""

    reason: str
    points: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Points without duplicates, in the order of the file, and what was left out."""

    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...]


def expand(sweep: Sweep) -> Grid:
    """All points of a sweep. Raises InputError if there are none, or too many to hold."""
    count = _upper_bound(sweep)
    if count > MAX_POINTS:
        text = f"{count:,} points; at most {MAX_POINTS:,} are allowed"
        raise InputError(f"{sweep.source}: sweeps.{sweep.name}: {text}")
    left_out: Counter[str] = Counter()
    rules = [excluded_by(i, rule) for i, rule in enumerate(sweep.exclude)]
    left_out.update({name: 0 for name, _ in rules})
    found: dict[Point, None] = {}
    for point in _points(sweep, sweep.methods, left_out):
        name = next((name for name, matches in rules if matches(point)), None)
        if name is None:
            found[point] = None
        else:
            left_out[name] += 1
    found.update(dict.fromkeys(_points(sweep, sweep.include, left_out)))
    skipped = tuple(Skipped(reason, points) for reason, points in left_out.items())
    if not found:
        reasons = "; ".join(f"{s.points} by {s.reason}" for s in skipped if s.points)
        raise InputError(f"{sweep.source}: sweeps.{sweep.name}: no point is left: {reasons}")
    return Grid(tuple(found), skipped)


def only(grid: Grid, keys: Sequence[str]) -> Grid:
    """The points whose key begins with one of `keys`; all of them where none is given.

    Raises InputError for a beginning that no point or more than one has.
    """
    if not keys:
        return grid
    found: dict[Point, None] = {}
    for key in keys:
        matching = [p for p in grid.points if key and p.key.startswith(key)]
        if len(matching) != 1:
            many = f"begins the keys of {len(matching)} points" if matching else "is no point's key"
            raise InputError(f"--point {key!r} {many}; keys are in the column point_key of a run")
        found[matching[0]] = None
    return Grid(tuple(found), grid.skipped)


def _points(
    sweep: Sweep, entries: tuple[MethodEntry, ...], left_out: Counter[str]
) -> Iterator[Point]:
    accuracy = _accuracy(sweep)
    quants = {i: _quants(entry.quant or sweep.quant) for i, entry in enumerate(entries)}
    every = dict.fromkeys(quant for own in quants.values() for quant in own)
    for model, quant in product(sweep.models, every):
        geometry = model.load_geometry()
        for i, entry in enumerate(entries):
            if quant not in quants[i] or (entry.models and model.model not in entry.models):
                continue
            devices = _devices(sweep, entry, model)
            for (method, density, parameters, gamma, way), device in product(
                _choices(entry), devices
            ):
                reason = refusal(quant, method)
                if reason:
                    left_out[reason] += 1
                    continue
                caches = _caches(sweep, entry, method, gamma, left_out)
                if gamma < 1 and way != "cache-aware":
                    left_out[f"gamma below 1 selects by the cache, not by {way}"] += len(caches)
                    continue
                for policy, start, scope in caches:
                    yield Point(
                        sweep=sweep.name,
                        model=model.model,
                        quant=quant,
                        method=method,
                        density=density,
                        parameters=parameters,
                        selector=way,
                        gamma=gamma,
                        policy=policy,
                        device=device,
                        cache_start=start,
                        cache_scope=scope,
                        timing=device.timing,
                        accuracy=accuracy,
                        kv_bits=_plain(sweep.kv.bits),
                        kv_tokens=sweep.kv.tokens,
                        geometry=geometry,
                    )


def _choices(entry: MethodEntry) -> list[tuple[str, float, Parameters, float, str]]:
    """(method, density, parameters, gamma, selector) of one entry, each once.

    gamma below 1 takes the place of top-k, and of a selector that the entry does not ask for.
    """
    choices = []
    names = entry.parameters
    for alias, values in product(entry.method, product(*names.values())):
        method, own_gamma = ALIASES.get(alias, (alias, 1.0))
        given = tuple(zip(names, values, strict=True))
        masked = bool(method_class(method).groups)
        for density in (1.0,) if method == "dense" else entry.density:
            parameters = _all_parameters(method, density, given)
            gammas = entry.gamma or (own_gamma,) if masked else (1.0,)
            asked = entry.selector if masked else ()
            for gamma, way in product(gammas, asked or (method_class(method).selector,)):
                by_cache = gamma < 1 and (way == "topk" or not asked)
                selector = "cache-aware" if by_cache else way
                choices.append((method, density, parameters, gamma, selector))
    return list(dict.fromkeys(choices))


def _all_parameters(method: str, density: float, given: Parameters) -> Parameters:
    """The method's parameters with its defaults, so that writing a default changes nothing."""
    made = methods.create(method, density=density, **dict(given))
    return tuple(sorted(made.parameters().items()))


def _caches(
    sweep: Sweep, entry: MethodEntry, method: str, gamma: float, left_out: Counter[str]
) -> list[tuple[str, str, str]]:
    """(policy, start, scope) that make sense; the others are counted with their reason."""
    if not method_class(method).groups:
        return [("none", "empty", "window")]
    caches = []
    for policy in entry.policies or sweep.policies:
        ways = list(product(sweep.cache.start, sweep.cache.scope))
        if gamma < 1 and policy not in CACHE_AWARE:
            online = " or ".join(sorted(CACHE_AWARE))
            left_out[f"gamma below 1 needs policy {online}, not {policy}"] += len(ways)
        elif policy == "none":
            caches.append((policy, "empty", "window"))
        else:
            caches += [(policy, *way) for way in ways]
    return caches


def _devices(sweep: Sweep, entry: MethodEntry, model: ModelEntry) -> list[Device]:
    """Devices of an entry for one model, with their timing."""
    devices: list[Device] = []
    for given in entry.devices or sweep.devices:
        if not given.models or model.model in given.models:
            devices += _variants(given, given.timing or sweep.timing)
    return list(dict.fromkeys(devices))


def _variants(given: DeviceEntry, timings: tuple[str, ...]) -> tuple[Device, ...]:
    axes: dict[str, tuple[Any, ...]] = {
        "dram_gb": given.dram_gb,
        "flash_gbps": given.flash_gbps,
        "dram_gbps": given.dram_gbps,
        "timing": timings,
        "title": (given.title,) if given.title else (),
        "source": (given.source,) if given.source else (),
    }
    axes = {key: values for key, values in axes.items() if values}
    return tuple(
        Device.load({"device": given.device, **dict(zip(axes, values, strict=True))})
        for values in product(*axes.values())
    )


def _quants(entries: Iterable[QuantEntry]) -> list[Quant]:
    quants = []
    for entry in entries:
        sizes = product(entry.bits, entry.group_size, entry.embedding_bits)
        choices = product(*entry.parameters.values())
        for method, (bits, group_size, embedding), own in product(entry.method, sizes, choices):
            given = dict(zip(entry.parameters, own, strict=True))
            quants.append(_quant(method, _plain(bits), group_size, _plain(embedding), given))
    return list(dict.fromkeys(quants))


def _quant(
    method: str, bits: float, group_size: int, embedding_bits: float, given: Mapping[str, object]
) -> Quant:
    """With the quantiser's defaults, so that writing a default changes nothing."""
    made = quantiser(Quant(method, bits, group_size, embedding_bits, tuple(given.items())))
    parameters = tuple(sorted(made.parameters().items())) if made else ()
    return Quant(method, bits, group_size, embedding_bits, parameters)


def _accuracy(sweep: Sweep) -> Accuracy:
    return Accuracy(
        text=sweep.text,
        calibration=sweep.calibration,
        windows=sweep.windows,
        window_tokens=sweep.window_tokens,
        shard_windows=sweep.shard_windows,
        dtype=sweep.dtype,
        threads=sweep.resources.evaluate.cpu,
        seed=sweep.seed,
    )


def _plain(number: float) -> float:
    """4.0 as 4, so that a point written in Python has the key of the same point in YAML."""
    return int(number) if number == int(number) else number


def _upper_bound(sweep: Sweep) -> int:
    """Points if none fell together or were left out, by counting alone."""
    caches = len(sweep.cache.start) * len(sweep.cache.scope)
    total = 0
    for entry in (*sweep.methods, *sweep.include):
        devices = sum(_device_size(d, sweep) for d in entry.devices or sweep.devices)
        policies = len(entry.policies or sweep.policies)
        quants = sum(_quant_size(quant) for quant in entry.quant or sweep.quant)
        total += _size(entry) * quants * devices * policies * caches
    return total * len(sweep.models)


def _quant_size(entry: QuantEntry) -> int:
    axes = (entry.method, entry.bits, entry.group_size, entry.embedding_bits)
    return prod(len(values) for values in (*axes, *entry.parameters.values()))


def _size(entry: MethodEntry) -> int:
    own = prod(len(values) for values in entry.parameters.values())
    axes = (entry.density, entry.gamma, entry.selector)
    return len(entry.method) * prod(max(1, len(axis)) for axis in axes) * own


def _device_size(entry: DeviceEntry, sweep: Sweep) -> int:
    timings = entry.timing or sweep.timing
    axes = (entry.dram_gb, entry.flash_gbps, entry.dram_gbps, timings)
    return prod(max(1, len(axis)) for axis in axes)
