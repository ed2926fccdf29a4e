"""Bundles over layers: what is announced for some layers is read ahead in one piece (SEMANTICS 9).

Layers go in steps of `span`. In the file unit i of all layers of a step lies together, a bundle.
The masks of a step are announced by the first layer of the step before, those of the first step by
its own first layer; what is announced and not cached in all its layers is read as bundles while the
step before computes. What a layer uses beside that is read on demand, each layer its own part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.device import Device
from simulator.errors import SimulatorError
from simulator.read_cost import ReadCost
from simulator.read_plans import reads_by_size

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Came:
    """How units of a group came from Flash: reads, bytes and seconds, arrays `[tokens, places]`;
    places are steps or layers. `sizes` counts reads of so many bytes and more."""

    reads: Ints
    bytes: Floats
    seconds: Floats
    sizes: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Bundled:
    """A group: units that each layer used and missed `[tokens, layers]`, bundles that each step
    read `[tokens, steps]`, and how bundles and what was read on demand came."""

    used: Ints
    missed: Ints
    bundles: Ints
    ahead: Came
    demand: Came


def bundled(
    masks: Sequence[Bools],
    residents: Sequence[Bools],
    span: int,
    unit_bytes: float,
    cost: ReadCost,
    align_bytes: int = 1,
    orders: Sequence[Ints] | None = None,
) -> Bundled:
    """Reads of a group whose layers use `masks`, bool `[tokens, units]` each, with `residents`,
    bool `[units]` each, always in the cache. `orders` are units as they lie, of which those of a
    step's first layer hold for the step. Raises SimulatorError for a span below 1."""
    if span < 1:
        raise SimulatorError(f"span is {span!r}; bundles have 1 layer or more")
    layers, used = len(masks), np.stack([mask.sum(axis=1) for mask in masks], axis=1)
    missed = [mask & ~resident for mask, resident in zip(masks, residents, strict=True)]
    ahead, demand = list[_Reads](), list[_Reads]()
    bundles = list[Ints]()
    natural: Ints = np.arange(masks[0].shape[1], dtype=np.int64)
    for first in range(0, layers, span):
        step = range(first, min(first + span, layers))
        order = natural if orders is None else orders[first]
        announced = masks[max(0, first - span)]
        wanted = announced & ~np.logical_and.reduce([residents[layer] for layer in step])
        bundles.append(wanted.sum(axis=1))
        size = unit_bytes * len(step)
        ahead.append(reads_by_size(wanted[:, order], size, cost, align_bytes))
        for place, layer in enumerate(step):
            parts = np.zeros((*wanted.shape, len(step)), np.bool_)
            parts[:, :, place] = (missed[layer] & ~announced)[:, order]
            lying = parts.reshape(len(wanted), -1)
            demand.append(reads_by_size(lying, unit_bytes, cost, align_bytes))
    by_layer = np.stack([mask.sum(axis=1) for mask in missed], axis=1)
    return Bundled(used, by_layer, np.stack(bundles, axis=1), _came(ahead), _came(demand))


_Reads = tuple[tuple[Ints, Floats, Floats], dict[int, int]]


def _came(places: Sequence[_Reads]) -> Came:
    reads = np.stack([totals[0] for totals, _ in places], axis=1)
    read_bytes, seconds = (
        np.stack([totals[i] for totals, _ in places], axis=1).astype(np.float64) for i in (1, 2)
    )
    sizes: dict[int, int] = {}
    for _, of_place in places:
        for size, count in of_place.items():
            sizes[size] = sizes.get(size, 0) + count
    return Came(reads, read_bytes, seconds, sizes)


@dataclass(frozen=True, slots=True, eq=False)
class PreloadCounts:
    """What the time of steps depends on, of all groups together.

    Of each `[n]` kind of step: units that it uses `used [n, groups]` and bundles that the next one
    reads meanwhile `bundles [n, groups]`, how many steps are of the kind, and the reads, bytes and
    seconds of these bundles, summed. `waited` are reads, bytes and seconds that nothing hides: the
    bundles of first steps, and what is read on demand.
    """

    groups: tuple[str, ...]
    used: Ints
    bundles: Ints
    count: Ints
    sums: Floats
    """Reads, bytes, seconds `[n, 3]`."""
    waited: Floats
    """Reads, bytes, seconds `[3]`."""

    @classmethod
    def of(cls, groups: Mapping[str, Bundled], span: int) -> PreloadCounts:
        """Of groups with the same tokens and layers."""
        every = list(groups.values())
        steps = range(0, every[0].used.shape[1], span)
        used = np.stack([np.add.reduceat(one.used, steps, axis=1) for one in every], axis=-1)
        bundles = np.stack([_next(one.bundles) for one in every], axis=-1)
        sums = np.stack([_next(_sum(every, "ahead", name)) for name in _SUMMED], axis=-1)
        waited = [
            float(_sum(every, "ahead", name)[:, 0].sum() + _sum(every, "demand", name).sum())
            for name in _SUMMED
        ]
        return _grouped(
            tuple(groups), used, bundles, np.ones(used.shape[:2], np.int64), sums, waited
        )

    def merge(self, others: Sequence[PreloadCounts]) -> PreloadCounts:
        """These steps and those of `others` together. Raises SimulatorError for other groups."""
        parts = [self, *others]
        if any(part.groups != self.groups for part in parts):
            raise SimulatorError("steps of other groups cannot be put together")
        columns = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("used", "bundles", "count", "sums")
        ]
        waited = np.sum([part.waited for part in parts], axis=0)
        return _grouped(self.groups, *columns, waited=waited)

    def seconds(self, device: Device, unit_bytes: Mapping[str, float], overlap: bool) -> float:
        """Seconds of all steps: of each the longer of its own compute (`overlap`; else both) and
        of the next one's bundles, and what is waited for. Steps of one kind are taken at their
        mean."""
        rate = min(device.dram_gbps, device.compute_gbps or np.inf) * 1e9
        compute = self.used @ np.array([unit_bytes[name] for name in self.groups]) / rate
        loading = self._priced(self.sums, device) / self.count
        times = np.maximum(compute, loading) if overlap else compute + loading
        return float((times * self.count).sum() + self._priced(self.waited, device))

    @staticmethod
    def _priced(sums: Floats, device: Device) -> Any:
        """Seconds of reads and bytes by latency and bandwidth, or those of a table as they are."""
        cost = device.read_cost()
        if cost is None or not cost.affine:
            return sums[..., 2]
        return sums[..., 0] * (cost.latency_us * 1e-6) + sums[..., 1] / (cost.gbps * 1e9)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, for a journal."""
        names = ("used", "bundles", "count", "sums", "waited")
        return {"groups": list(self.groups), **{n: getattr(self, n).tolist() for n in names}}

    @classmethod
    def from_json(cls, mapping: Mapping[str, Any]) -> PreloadCounts:
        """The inverse of `to_json`."""
        used, bundles, count = (
            np.array(mapping[name], np.int64) for name in ("used", "bundles", "count")
        )
        sums, waited = (np.array(mapping[name], np.float64) for name in ("sums", "waited"))
        return cls(tuple(mapping["groups"]), used, bundles, count, sums, waited)


_SUMMED = ("reads", "bytes", "seconds")


def _sum(groups: Sequence[Bundled], came: str, name: str) -> Floats:
    parts = [np.asarray(getattr(getattr(one, came), name), np.float64) for one in groups]
    return np.stack(parts).sum(axis=0)


def _next(of_steps: NDArray[Any]) -> NDArray[Any]:
    """What the step after each has; nothing after the last. Arrays `[tokens, steps]`."""
    return np.concatenate((of_steps[:, 1:], np.zeros_like(of_steps[:, :1])), axis=1)


def _grouped(
    groups: tuple[str, ...],
    used: NDArray[Any],
    bundles: NDArray[Any],
    count: NDArray[Any],
    sums: NDArray[Any],
    waited: Any,
) -> PreloadCounts:
    """Kinds once each, sorted, with the sums of the steps that are of them."""
    kinds = np.concatenate((used, bundles), axis=-1).reshape(-1, 2 * len(groups))
    every, places = np.unique(kinds, axis=0, return_inverse=True)
    counts, totals = np.zeros(len(every), np.int64), np.zeros((len(every), 3))
    np.add.at(counts, places.reshape(-1), count.reshape(-1))
    np.add.at(totals, places.reshape(-1), sums.reshape(-1, 3))
    own, theirs = every[:, : len(groups)], every[:, len(groups) :]
    return PreloadCounts(groups, own, theirs, counts, totals, np.asarray(waited, np.float64))
