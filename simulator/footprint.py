"""Which bytes are always in DRAM, and how the rest of it is shared out as caches (SEMANTICS 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from simulator.errors import SimulatorError, check_number, unknown
from simulator.geometry import Geometry, Storage

COVERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "input": (("up", "gate"), "hidden"),
    "intermediate": (("down",), "intermediate"),
    "neuron": (("up", "gate", "down"), "intermediate"),
    "gate-neuron": (("gate", "down"), "intermediate"),
    "up-neuron": (("up", "down"), "intermediate"),
    "up-input": (("up",), "hidden"),
    "gate-input": (("gate",), "hidden"),
}
"""For each weight group the MLP matrices that it covers, and the size that its units run over: the
hidden one (a column of W_up and W_gate) or the intermediate one (SEMANTICS 1)."""
GROUPS = tuple(COVERS)


@dataclass(frozen=True, slots=True)
class GroupSize:
    """One pruned weight group: `units` of `unit_bytes` each, in every one of `layers` layers."""

    units: int
    unit_bytes: float
    layers: int

    @property
    def total_bytes(self) -> float:
        """Bytes of the group in all layers."""
        return self.units * self.unit_bytes * self.layers


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that every token uses (`static_bytes`), and the groups it uses in part."""

    static_bytes: float
    groups: Mapping[str, GroupSize]

    @property
    def pruned_bytes(self) -> float:
        """Bytes of all pruned groups."""
        return sum(group.total_bytes for group in self.groups.values())

    @property
    def total_bytes(self) -> float:
        """Bytes of everything, KV cache and overhead included."""
        return self.static_bytes + self.pruned_bytes


@dataclass(frozen=True, slots=True)
class Allocation:
    """DRAM shared out: static bytes first, the rest as caches of equal fraction.

    `fraction` of each pruned group is cached, `slots[group]` units in each layer;
    `resident_bytes` of the static bytes are in DRAM, `excess_bytes` are streamed for each token.
    """

    fraction: float
    slots: Mapping[str, int]
    resident_bytes: float
    excess_bytes: float


def footprint(
    geometry: Geometry,
    groups: Iterable[str],
    storage: Storage | None = None,
    overhead_bytes: float = 0,
) -> Footprint:
    """Static bytes and group sizes of a method that prunes `groups` (none: the dense model).

    Raises SimulatorError for an unknown group, and for groups that share a matrix.
    """
    check_number("footprint", "overhead_bytes", overhead_bytes, 0, strict=False)
    storage, groups = storage or Storage(), list(groups)
    sizes = {group: _group_size(geometry, group, storage) for group in groups}
    covered = [matrix for group in groups for matrix in COVERS[group][0]]
    if len(covered) != len(set(covered)):
        raise SimulatorError(f"groups {', '.join(groups)} prune the same matrix twice")
    dense_mlp = storage.mlp_share * (3 - len(covered)) * geometry.hidden * geometry.intermediate
    linear = geometry.layers * (geometry.attention_weights + dense_mlp)
    embedding = geometry.embedding_weights * storage.embedding_bits / 8
    static = linear * storage.bytes_per_weight + embedding + geometry.kv_bytes(storage)
    return Footprint(static + overhead_bytes, sizes)


def _group_size(geometry: Geometry, group: str, storage: Storage) -> GroupSize:
    if group not in COVERS:
        raise unknown("weight group", group, COVERS)
    matrices, runs_over = COVERS[group]
    units = getattr(geometry, runs_over)
    across = geometry.intermediate if runs_over == "hidden" else geometry.hidden
    return GroupSize(units, len(matrices) * across * storage.bytes_per_weight, geometry.layers)


def allocate(footprint: Footprint, dram_bytes: float) -> Allocation:
    """Pin the static bytes, then give each group and layer `floor(f * units)` cache slots.

    `f = min(1, (dram_bytes - static) / pruned)`, and 0 if the static bytes alone do not fit.
    """
    check_number("allocation", "dram_bytes", dram_bytes, 0, strict=True)
    room, pruned = dram_bytes - footprint.static_bytes, footprint.pruned_bytes
    fraction = min(1.0, max(0.0, room) / pruned) if pruned else float(room >= 0)
    slots = {name: math.floor(fraction * group.units) for name, group in footprint.groups.items()}
    return Allocation(fraction, slots, min(footprint.static_bytes, dram_bytes), max(0.0, -room))
