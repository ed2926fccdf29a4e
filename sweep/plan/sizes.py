"""Bytes of a point: of its model, and of what its method needs beside it (SEMANTICS 2)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

import methods
from methods.base import Method, MethodError
from methods.dynamic.hire import HiRE
from methods.experts.rules import GROUP, Rule
from methods.shared import Shared
from methods.static.pruning import StaticPruning
from simulator import (
    Allocation,
    Footprint,
    Geometry,
    SimulatorError,
    Storage,
    allocate,
    footprint,
)
from simulator.cache_shares import shared_slots
from sweep.errors import InputError
from sweep.plan.point import Point, Quant
from sweep.plan.weight_steps import quant_label

MOST_PLACES = 6
"""Notes about devices where nothing is cached; of more, their number."""


def overhead_bytes(point: Point, geometry: Geometry, storage: Storage) -> float:
    """Static bytes of the point's method in all layers."""
    method = methods.create(point.method, point.density, **dict(point.parameters))
    return method_bytes(method, geometry, storage)


def method_bytes(method: Method, geometry: Geometry, storage: Storage) -> float:
    """Static bytes of a method in all layers.

    Weights of its own are stored with the bits of the model's, numbers as norms with 16; the mask
    of static pruning takes `mask_bits` for each MLP weight, kept or not.
    """
    sizes = (geometry.hidden, geometry.intermediate)
    weights = method.overhead_weights(*sizes) * geometry.layers
    weights += method.model_weights(*sizes, geometry.layers)
    numbers = method.resident_numbers(*sizes, geometry.attention_width)
    mask_bits = method.mask_bits if isinstance(method, StaticPruning) else 0.0
    mask = mask_bits / 8 * geometry.mlp_weights * geometry.layers
    return weights * storage.bytes_per_weight + 2.0 * numbers * geometry.layers + mask


def overhead_flops(point: Point, geometry: Geometry) -> int:
    """Multiplications and additions of a token, in all layers, with what the point's method has
    beside the model: two for each of these weights and numbers (SEMANTICS 8)."""
    method = methods.create(point.method, point.density, **dict(point.parameters))
    sizes = (geometry.hidden, geometry.intermediate)
    numbers = method.resident_numbers(*sizes, geometry.attention_width)
    if isinstance(method, HiRE) and method.scorer == "low-bit":  # several are in 16 bits
        numbers = 2 * geometry.intermediate * (geometry.hidden + 1)
    each = method.overhead_weights(*sizes) + numbers
    return 2 * (each * geometry.layers + method.model_weights(*sizes, geometry.layers))


def footprint_of(point: Point, geometry: Geometry, storage: Storage) -> Footprint:
    """Bytes of the point's model, its method's among them, as a device stores them."""
    overhead = overhead_bytes(point, geometry, storage)
    experts = (GROUP,) if geometry.experts is not None else ()
    groups = point.traits.groups or experts
    return footprint(geometry, groups, storage, overhead).in_chunks(point.chunk)


def cached_units(point: Point, geometry: Geometry, storage: Storage) -> dict[str, int]:
    """Units of each pruned group that a layer's cache holds; none under the policy `none`."""
    sizes = footprint_of(point, geometry, storage)
    slots = slots_of(point, sizes, allocate(sizes, point.device.dram_gb * 1e9))
    _check_pool(point, geometry, slots)
    return slots


def slots_of(point: Point, sizes: Footprint, room: Allocation) -> dict[str, int]:
    """As `cached_units`, of a point whose DRAM is shared out already; of one pool all its units."""
    if point.policy == "none":
        return dict.fromkeys(sizes.groups, 0)
    if not point.pool:
        return shared_slots(sizes, room.slots, point.cache_shares)
    return {
        name: math.floor(room.fraction * group.units * group.layers + 1e-9)
        for name, group in sizes.groups.items()
    }


def part_of(point: Point, geometry: Geometry) -> dict[str, float]:
    """Share of a unit that a token uses of it, by group: below 1 where a method runs in experts."""
    method = methods.create(point.method, point.density, **dict(point.parameters))
    if not isinstance(method, Rule) or geometry.experts is None:
        return {}
    return {GROUP: method.part(geometry.hidden, geometry.experts.intermediate)}


def check_experts(point: Point, geometry: Geometry) -> None:
    """Raise InputError for a rule on a model without experts or that does not fit them, and for
    all that is not made for a mixture of experts."""
    experts = geometry.experts
    if not point.traits.routes:
        if experts is None or (point.traits.dense and not point.traits.coded):
            _check_weights(point, experts is not None)
            return
        raise InputError(
            f"model {point.model} is a mixture of experts, and {point.method} is for plain MLPs; "
            "rules choose its experts, and neuron methods run inside of these: "
            "{method: stock, inside: glu, density: 0.8}"
        )
    if experts is None:
        raise InputError(
            f"{point.method} chooses experts; model {point.model} has none that are routed to"
        )
    _check_weights(point, True)
    rule = methods.create(point.method, point.density, **dict(point.parameters))
    assert isinstance(rule, Rule)
    try:
        rule.check(experts.count, experts.chosen)
    except MethodError as error:
        raise InputError(f"model {point.model}: {error}") from None


def check_scored(point: Point, dense: bool) -> None:
    """Raise InputError for a rule that downstream tasks are to be scored under."""
    if point.lam is not None and not dense:
        raise InputError(
            f"{point.method} has a fixed price of reads (lam), and downstream tasks are scored at "
            "densities: leave out tasks, or lam"
        )
    if point.traits.routes and not dense:
        raise InputError(
            f"{point.method} chooses experts, and downstream tasks are scored without rules: leave "
            "out tasks, or the rules"
        )


def _check_weights(point: Point, of_experts: bool) -> None:
    if of_experts and (point.quant.method != "none" or point.swap):
        raise InputError(
            f"model {point.model} is a mixture of experts: its weights are counted at any bits, "
            "and no quantiser and no other activation is made for them"
        )


def _check_pool(point: Point, geometry: Geometry, slots: Mapping[str, int]) -> None:
    """Raise InputError where one pool is smaller than what a token asks of it in one layer."""
    rule = methods.create(point.method, point.density, **dict(point.parameters))
    if not point.pool or geometry.experts is None or not isinstance(rule, Rule):
        return
    asked = rule.used(geometry.experts.chosen)
    if slots[GROUP] < asked:
        raise InputError(
            f"a pool of {slots[GROUP]} experts for all layers of {point.model} with "
            f"{point.device.dram_gb:g} GB of DRAM is smaller than one event, which asks for {asked}"
        )


def without_cache(point: Point) -> Point:
    """What a point is where its caches hold no unit (SEMANTICS 4): policy, start, scope and shares
    change nothing, and cache-aware selection is top-k, as no unit is ever cached."""
    aware = point.selector == "cache-aware" and not point.traits.routes
    plain = "layer-threshold" if point.selector == "resident-threshold" else point.selector
    return replace(
        point,
        policy="none",
        cache_start="empty",
        cache_scope="window",
        pool=False,
        cache_shares=(),
        selector="topk" if aware else plain,
        gamma=1.0 if aware else point.gamma,
    )


def uncached_notes(points: Iterable[Point], title: Callable[[str], str]) -> list[str]:
    """A sentence for each model and DRAM size where caches were asked for and nothing is cached.
    `title` names a model."""
    methods_at: dict[tuple[str, str, float], dict[str, None]] = {}
    for point in points:
        model_on_device = point.model, point.device.name, point.device.dram_gb
        methods_at.setdefault(model_on_device, {})[point.method] = None
    notes = [
        f"nothing is cached for {', '.join(names)} on {title(model)} with {dram_gb:g} GB of DRAM "
        f"({device}): what every token uses leaves no room, so policy and γ change nothing there"
        for (model, device, dram_gb), names in methods_at.items()
    ]
    more = len(notes) - MOST_PLACES
    return notes if more <= 0 else [*notes[:MOST_PLACES], f"nothing is cached in {more} more"]


def planned_sizes(geometry: Geometry) -> str:
    """As JSON, what a loaded model must have (`sweep.tasks.as_planned`)."""
    names = ("layers", "hidden", "intermediate", "tied_embeddings")
    sizes = {name: getattr(geometry, name) for name in names}
    with suppress(SimulatorError):  # not all models mix tokens by attention alone
        weights = sum(geometry.attention_weights_of.values())
        sizes |= {"attention_width": geometry.attention_width, "attention_weights": weights}
    return json.dumps(sizes)


NOTABLE = 0.1
"""Share by which simulated bytes may differ from those of the files before it is said."""


def groupby_model(points: Iterable[Point]) -> dict[str, list[Point]]:
    """By model, a point for each way in which its weights are stored."""
    models: dict[str, dict[Quant, Point]] = {}
    for point in points:
        if not (point.traits.static or point.traits.coded):
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


def check_layers(point: Point, count: int) -> None:
    """Raise InputError where densities by layer are not those of the model's layers."""
    densities = len(str(dict(point.parameters).get("layers", "")).split())
    if densities not in (0, count):
        raise InputError(f"layers: {densities} densities for the {count} layers of {point.model}")
    method = methods.create(point.method, point.density, **dict(point.parameters))
    if method.announced_layers() >= count:
        raise InputError(
            f"{point.method} announces its masks for {method.announced_layers()} layers; "
            f"{point.model} has {count}, so at most {count - 1} follow one"
        )
    if isinstance(method, Shared) and len(method.table()) not in (1, count):
        rows = len(method.table())
        raise InputError(f"shares: those of {rows} layers for the {count} layers of {point.model}")


def sparse_note(model: str, matrix: str, zeros: float) -> str:
    """One sentence about a model whose weights arrive sparse."""
    return (
        f"model {model}: its weights arrive sparse ({zeros:.0%} of {matrix} are 0); the method "
        "packed counts their bytes without the zeros, dense and all others with them"
    )
