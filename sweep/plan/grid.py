"""From a sweep to its points: each method entry expands by itself, duplicates fall together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import methods
from methods.base import GIVEN
from methods.names import Swap
from simulator import SimulatorError, cache_shares
from simulator.device import Device
from simulator.policies import CACHE_AWARE, cache_aware_policies, policy_class
from sweep.allocation import files as allocations
from sweep.errors import InputError
from sweep.inputs import model_sizes
from sweep.plan.excluded_points import excluded_by, prices, unannounced, unfit, unread
from sweep.plan.point import (
    FIXED_CONTENT,
    READ_AWARE,
    Accuracy,
    MethodTraits,
    Parameters,
    Point,
    Quant,
)
from sweep.plan.weight_steps import quants_of, refusal
from sweep.spec import values as fields
from sweep.spec.entries import ALIASES, DeviceEntry, MethodEntry, ModelEntry, Sweep

MAX_POINTS = 1_000_000
_Cache = tuple[str, str, str, bool, cache_shares.Shares]
"""Policy, start, scope, whether all layers share it, and what each group gets of it."""
_NO_CACHE: _Cache = ("none", "empty", "window", False, ())


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
    count = sweep.most_points
    if count > MAX_POINTS:
        text = f"{count:,} points; at most {MAX_POINTS:,} are allowed"
        raise InputError(f"{sweep.source}: sweeps.{sweep.name}: {text}")
    left_out: Counter[str] = Counter()
    rules = [excluded_by(i, rule) for i, rule in enumerate(sweep.exclude)]
    left_out.update({name: 0 for name, _ in rules})
    traits = _traits(sweep)
    points: dict[Point, None] = {}
    for point in _points(sweep, sweep.methods, traits, left_out):
        name = next((name for name, matches in rules if matches(point)), None)
        if name is None:
            points[point] = None
        else:
            left_out[name] += 1
    points.update(dict.fromkeys(_points(sweep, sweep.include, traits, left_out)))
    skipped = tuple(Skipped(reason, count) for reason, count in left_out.items())
    if not points:
        reasons = "; ".join(f"{s.points} by {s.reason}" for s in skipped if s.points)
        raise InputError(f"{sweep.source}: sweeps.{sweep.name}: no point is left: {reasons}")
    return Grid(tuple(points), skipped)


def only(grid: Grid, keys: Sequence[str]) -> Grid:
    """The points whose key begins with one of `keys`; all of them where none is given.

    Raises InputError for a beginning that no point or more than one has.
    """
    if not keys:
        return grid
    chosen: dict[Point, None] = {}
    for key in keys:
        matching = [p for p in grid.points if key and p.key.startswith(key)]
        if len(matching) != 1:
            many = f"begins the keys of {len(matching)} points" if matching else "is no point's key"
            raise InputError(f"--point {key!r} {many}; keys are in the column point_key of a run")
        chosen[matching[0]] = None
    return Grid(tuple(chosen), grid.skipped)


def _traits(sweep: Sweep) -> dict[str, MethodTraits]:
    """Of every method of the sweep, by name: the registry is asked once, and points share them."""
    names = (_method(alias) for e in (*sweep.methods, *sweep.include) for alias in e.method)
    return {name: MethodTraits.of(name) for name in dict.fromkeys(names)}


def _method(alias: str) -> str:
    return ALIASES[alias][0] if alias in ALIASES else alias


def _points(
    sweep: Sweep,
    entries: tuple[MethodEntry, ...],
    traits: Mapping[str, MethodTraits],
    left_out: Counter[str],
) -> Iterator[Point]:
    accuracy = _accuracy(sweep)
    for model, swap, quants, quant in _weights(sweep, entries):
        geometry = model.load_geometry()
        for i, entry in enumerate(entries):
            if quant not in quants[i] or (entry.models and model.model not in entry.models):
                continue
            allocations.check(entry.parameters, model.model, f"{sweep.source}: sweeps.{sweep.name}")
            devices = _devices(sweep, entry, model)
            for (method, density, parameters, gamma, selector, lam), chunk, place in product(
                _choices(entry, traits), entry.chunk, devices
            ):
                device, context, layout, preload = place
                reason = refusal(quant, method)
                if reason and method.coded:
                    raise InputError(f"{sweep.source}: sweeps.{sweep.name}: {reason}")
                if reason:
                    left_out[reason] += 1
                    continue
                caches = _caches(sweep, entry, method, (gamma, selector, layout, preload), left_out)
                reason = unfit(method, selector, gamma, chunk, entry)
                reason = reason or unread(method, selector, device, layout)
                reason = reason or unannounced(method, density, parameters, selector, preload)
                if reason:
                    left_out[reason] += len(caches)
                    continue
                for policy, start, scope, pool, shares in caches:
                    yield Point(
                        sweep=sweep.name,
                        model=model.model,
                        quant=quant,
                        method=method.name,
                        density=density,
                        parameters=parameters,
                        selector=selector,
                        gamma=gamma,
                        policy=policy,
                        device=device,
                        cache_start=start,
                        cache_scope=scope,
                        timing=device.timing,
                        accuracy=accuracy,
                        traits=method,
                        kv_bits=fields.plain(sweep.kv.bits),
                        kv_tokens=context,
                        geometry=geometry,
                        swap=swap,
                        chunk=chunk if method.groups else 1,
                        layout=layout if method.groups else "natural",
                        pool=pool,
                        lam=lam,
                        preload_layers=preload if method.groups else 0,
                        cache_shares=shares,
                    )


def _weights(
    sweep: Sweep, entries: tuple[MethodEntry, ...]
) -> Iterator[tuple[ModelEntry, Swap | None, dict[int, list[Quant]], Quant]]:
    """Models with each activation, and each quantisation that an entry asks for; and those of each
    entry. Raises InputError for weights that cannot learn and keep the bits of their file."""
    for model in sweep.models:
        from_file = model_sizes.comes_quantised(model.model)
        quants = {
            i: quants_of(entry.quant or sweep.quant, from_file) for i, entry in enumerate(entries)
        }
        every = dict.fromkeys(quant for of_entry in quants.values() for quant in of_entry)
        for swap, quant in product(model.swaps, every):
            if swap and swap.tokens and quant.of_file:
                raise InputError(
                    f"{sweep.source}: sweeps.{sweep.name}.models: {model.model} would learn {swap} "
                    "and have weights that its file's bits cannot hold; give quant other bits"
                )
            yield model, swap, quants, quant


def _choices(
    entry: MethodEntry, traits: Mapping[str, MethodTraits]
) -> list[tuple[MethodTraits, float, Parameters, float, str, float | None]]:
    """(method, density, parameters, gamma, selector, price of reads) of one entry, each once.

    gamma below 1 takes the place of top-k and of no other selector.
    """
    choices = []
    for alias in entry.method:
        name, alias_gamma = ALIASES.get(alias, (alias, 1.0))
        named, own = traits[name], entry.parameters
        lams = prices(named, own)
        for density, written in _densities(name, entry, own, lams):
            parameters = _all_parameters(name, density, written)
            method = named.with_parameters(parameters)
            gammas = entry.gamma or (alias_gamma,) if method.groups else (1.0,)
            selectors = entry.selector if method.groups else ()
            if selectors and (method.selector == GIVEN or method.routes):
                raise InputError(f"{name} decides its masks itself: leave out its selector")
            for gamma, selector, lam in product(gammas, selectors or (method.selector,), lams):
                way = "cache-aware" if gamma < 1 and selector == "topk" else selector
                choices.append((method, density, parameters, gamma, way, lam))
    return list(dict.fromkeys(choices))


def _densities(
    name: str, entry: MethodEntry, own: Mapping[str, tuple[Any, ...]], lams: tuple[Any, ...]
) -> Iterator[tuple[float, Parameters]]:
    """Densities with each choice of parameters: those of the entry; where it may leave them out,
    the one that the method has, or at a price of reads the middle of those that it reaches."""
    for values in product(*own.values()):
        written = tuple(zip(own, values, strict=True))
        low, high = methods.reachable(name, **dict(written))
        left_out = low if lams == (None,) else (low + high) / 2
        asked = entry.density if name != "dense" else ()
        for density in asked or (left_out,):
            yield density, written


def _all_parameters(name: str, density: float, written: Parameters) -> Parameters:
    """The method's parameters with its defaults, so that writing a default changes nothing."""
    method = methods.create(name, density=density, **dict(written))
    return tuple(sorted(method.parameters().items()))


def _caches(
    sweep: Sweep,
    entry: MethodEntry,
    method: MethodTraits,
    chosen_by: tuple[float, str, str, int],
    left_out: Counter[str],
) -> list[_Cache]:
    """Caches that make sense with gamma, selector, layout and preloading; the others are counted
    with their reason."""
    gamma, selector, layout, preload = chosen_by
    if not method.groups:
        return [_NO_CACHE]
    caches: list[_Cache] = []
    ways = sweep.cache.ways
    for policy in entry.policies or sweep.policies:
        if gamma < 1 and not method.routes and policy not in cache_aware_policies():
            online = " or ".join(sorted(CACHE_AWARE))
            left_out[f"gamma below 1 needs policy {online}, not {policy}"] += len(ways)
        elif selector == "resident-threshold" and policy_class(policy).offline:
            left_out[f"{selector} needs a policy that does not know the future"] += len(ways)
        elif selector == "read-aware" and policy not in READ_AWARE[layout]:
            known = f"policy {', '.join(READ_AWARE[layout])} in {layout} order"
            left_out[f"read-aware selection needs {known}, not {policy}"] += len(ways)
        elif preload and method.groups and policy not in FIXED_CONTENT:
            known = f"policy {', '.join(FIXED_CONTENT)}"
            left_out[f"what is read ahead needs {known}, not {policy}"] += len(ways)
        elif method.reads_cache and policy_class(policy).offline:
            left_out[f"{method.name} reads the cache, and {policy} knows the future"] += len(ways)
        elif not policy_class(policy).caches:
            caches.append((policy, *_NO_CACHE[1:]))
        else:
            fit = [way for way in ways if not (way[-1] and method.no_pool)]
            if len(fit) < len(ways):
                left_out[method.no_pool] += len(ways) - len(fit)
            sharings = _sharings(entry, method, left_out, len(fit))
            caches += [(policy, *way, shares) for way in fit for shares in sharings]
    return caches


def _sharings(
    entry: MethodEntry, method: MethodTraits, left_out: Counter[str], caches: int
) -> list[cache_shares.Shares]:
    """Ways to share a cache that the method's groups have; of others so many caches are counted."""
    sharings: list[cache_shares.Shares] = []
    for written in entry.cache_shares:
        try:
            sharings.append(cache_shares.shares_of(written, method.groups))
        except SimulatorError as error:
            left_out[f"{method.name}: {error}"] += caches
    return sharings


def _devices(
    sweep: Sweep, entry: MethodEntry, model: ModelEntry
) -> list[tuple[Device, int, str, int]]:
    """Devices of an entry for one model, with their timing, the tokens of the KV cache, and where a
    read has a cost the layout of Flash and the layers that are read ahead together."""
    devices: list[tuple[Device, int, str, int]] = []
    for device in entry.devices or sweep.devices:
        if not device.models or model.model in device.models:
            contexts = device.context or (sweep.kv.tokens,)
            for variant in _variants(device, device.timing or sweep.timing):
                lying = (sweep.layouts, sweep.preload_layers)
                lying = lying if variant.read_cost() else (("natural",), (0,))
                devices += product((variant,), contexts, *lying)
    return list(dict.fromkeys(devices))


def _variants(entry: DeviceEntry, timings: tuple[str, ...]) -> tuple[Device, ...]:
    axes: dict[str, tuple[Any, ...]] = {
        "dram_gb": entry.dram_gb,
        "flash_gbps": entry.flash_gbps,
        "dram_gbps": entry.dram_gbps,
        "timing": timings,
        "title": (entry.title,) if entry.title else (),
        "source": (entry.source,) if entry.source else (),
        "flash_read_kib": (entry.flash_read_kib,) if entry.flash_read_kib else (),
    }
    further = ("latency_us", "io_depth", "align_bytes", "compute_gbps", "head_ms", "flash")
    axes |= {name: (value,) for name in further if (value := getattr(entry, name)) is not None}
    axes = {key: values for key, values in axes.items() if values}
    return tuple(
        Device.load({"device": entry.device, **dict(zip(axes, values, strict=True))})
        for values in product(*axes.values())
    )


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
        bos=sweep.bos,
        window_order=sweep.window_order,
        dense_tokens=_dense_tokens(sweep),
        distances=sweep.distances,
    )


def _dense_tokens(sweep: Sweep) -> int:
    """Tokens at the start of a window that no method prunes. Raises InputError for all of them."""
    asked, tokens = sweep.dense_tokens, sweep.window_tokens
    count = math.floor(asked * tokens if asked < 1 else asked)
    if count != asked >= 1:
        raise InputError(f"dense_tokens {asked:g}: a whole number, or a part below 1 is expected")
    if count >= tokens:
        raise InputError(f"dense_tokens {asked:g} leaves nothing of windows of {tokens} tokens")
    return count
