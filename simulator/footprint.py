"""Which bytes are always in DRAM, and how the rest of it is shared out as caches (SEMANTICS 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from simulator.errors import SimulatorError, check_number, unknown
from simulator.experts import GROUP as EXPERT
from simulator.experts import ROUTER_BITS, Experts
from simulator.geometry import Geometry, Storage

COVERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "input": (("up", "gate"), "hidden"),
    "intermediate": (("down",), "intermediate"),
    "neuron": (("up", "gate", "down"), "intermediate"),
    "gate-neuron": (("gate", "down"), "intermediate"),
    "glu-neuron": (("up", "gate"), "intermediate"),
    "up-neuron": (("up", "down"), "intermediate"),
    "up-input": (("up",), "hidden"),
    "gate-input": (("gate",), "hidden"),
    "attn-input": (("q", "k", "v"), "hidden"),
    "attn-output": (("o",), "attention_width"),
    EXPERT: (("experts",), "experts"),
}
"""For each weight group the matrices that it covers, and the size that its units run over: the
hidden one (a column of W_up and W_gate, or of W_q, W_k and W_v), the intermediate one, that of
all heads together, or the experts of a layer (SEMANTICS 1 and 8)."""
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

    def in_chunks(self, chunk: int) -> Footprint:
        """The same bytes, with `chunk` neighbouring units taken as one (SEMANTICS 9).

        Raises SimulatorError where that does not divide the units of a group.
        """
        if chunk == 1:
            return self
        for name, group in self.groups.items():
            if group.units % chunk:
                raise SimulatorError(f"chunk {chunk} does not divide the {group.units} of {name}")
        groups = {
            name: GroupSize(group.units // chunk, group.unit_bytes * chunk, group.layers)
            for name, group in self.groups.items()
        }
        return Footprint(self.static_bytes, groups)


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
    parts = weight_bytes(geometry, storage)
    dense = sum(parts.get(matrix, 0.0) for matrix in _OF_MLPS if matrix not in covered)
    static = parts["mixers"] + storage.mlp_share * dense
    static -= sum(sizes[group].total_bytes for group in groups if _of_attention(group))
    static += parts["embedding"] + parts["head"] + geometry.kv_bytes(storage)
    static += parts.get("router", 0.0)
    return Footprint(static + overhead_bytes, sizes)


def weight_bytes(geometry: Geometry, storage: Storage) -> dict[str, float]:
    """Bytes of all weights by kind: mixers, gate, up, down, embedding and head (0 if tied).

    Further embeddings count with the embedding; of the MLP, nothing is pruned. A mixture of experts
    has `experts` and `router` too, and its shared experts count with gate, up and down.
    """
    parts = {"mixers": _mixer_bytes(geometry, storage)}
    layers = geometry.dense_layers
    parts |= {name: layers * _matrix_bytes(geometry, name, storage) for name in _MATRICES}
    if geometry.experts is not None:
        parts |= _expert_parts(geometry, geometry.experts, parts, storage)
    matrix = geometry.vocabulary * geometry.hidden
    if storage.file is None:
        parts["embedding"] = storage.embedding_bytes(geometry.vocabulary, geometry.hidden)
        parts["head"] = 0.0 if geometry.tied_embeddings else parts["embedding"]
        parts["embedding"] += geometry.other_embeddings * storage.embedding_bits / 8
    else:
        file = storage.file
        parts["embedding"] = (matrix * file.embedding + geometry.other_embeddings * file.other) / 8
        parts["head"] = 0.0 if geometry.tied_embeddings else matrix * file.head / 8
    return parts


_MATRICES = ("gate", "up", "down")
_OF_MLPS = (*_MATRICES, "experts")


def _expert_parts(
    geometry: Geometry, experts: Experts, dense: Mapping[str, float], storage: Storage
) -> dict[str, float]:
    """Bytes of experts and routers, and of gate, up and down with those of shared experts."""
    shared = replace(geometry, intermediate=experts.shared) if experts.shared else None
    parts = {
        name: dense[name] + experts.layers * (_matrix_bytes(shared, name, storage) if shared else 0)
        for name in _MATRICES
    }
    parts["experts"] = experts.layers * experts.count * _expert_bytes(geometry, experts, storage)
    parts["router"] = experts.layers * experts.router * ROUTER_BITS / 8
    return parts


def _expert_bytes(geometry: Geometry, experts: Experts, storage: Storage) -> float:
    one = replace(geometry, intermediate=experts.intermediate)
    return sum(_matrix_bytes(one, name, storage) for name in _MATRICES)


def _mixer_bytes(geometry: Geometry, storage: Storage) -> float:
    if storage.file is not None:
        return geometry.mixer_weights * storage.file.mixers / 8
    return sum(storage.linear_bytes(rows, length) for length, rows in geometry.mixer_rows)


def _of_attention(group: str) -> bool:
    return not set(COVERS[group][0]) <= set(_OF_MLPS)


def _matrix_bytes(geometry: Geometry, matrix: str, storage: Storage) -> float:
    """Bytes of one matrix of the MLP or of the attention of one layer."""
    if matrix not in _MATRICES:
        length, rows = geometry.attention_rows[matrix]
        if storage.file is not None:
            return length * rows * storage.file.mixers / 8
        return storage.linear_bytes(rows, length)
    hidden, intermediate = geometry.hidden, geometry.intermediate
    if storage.file is not None:
        return hidden * intermediate * getattr(storage.file, matrix) / 8
    rows, length = (hidden, intermediate) if matrix == "down" else (intermediate, hidden)
    return storage.linear_bytes(rows, length)


def _group_size(geometry: Geometry, group: str, storage: Storage) -> GroupSize:
    if group not in COVERS:
        raise unknown("weight group", group, COVERS)
    matrices, runs_over = COVERS[group]
    if group == EXPERT:
        if geometry.experts is None:
            raise SimulatorError(f"geometry {geometry.name!r} has no experts to be routed to")
        one = _expert_bytes(geometry, geometry.experts, storage)
        return GroupSize(geometry.experts.count, one, geometry.experts.layers)
    if geometry.experts is not None and not _of_attention(group):
        raise SimulatorError(
            f"geometry {geometry.name!r} is a mixture of experts: group {group!r} is of plain MLPs"
        )
    units = getattr(geometry, runs_over)
    total = sum(_matrix_bytes(geometry, matrix, storage) for matrix in matrices)
    return GroupSize(units, total / units, geometry.layers)


_HALF = 0.5
"""Of a byte: by less, DRAM and what it is to hold differ only in how the numbers are rounded."""
_PART = 1e-9
"""Of a unit, likewise."""


def allocate(footprint: Footprint, dram_bytes: float) -> Allocation:
    """Pin the static bytes, then give each group and layer `floor(f * units)` cache slots.

    `f = min(1, (dram_bytes - static) / pruned)`, and 0 if the static bytes alone do not fit. DRAM
    of exactly the bytes of the model holds all of it, whatever floats make of the sum.
    """
    check_number("allocation", "dram_bytes", dram_bytes, 0, strict=True)
    room, pruned = dram_bytes - footprint.static_bytes, footprint.pruned_bytes
    room = 0.0 if abs(room) < _HALF else room
    if pruned and room > pruned - _HALF:
        fraction = 1.0
    else:
        fraction = max(0.0, room) / pruned if pruned else float(room >= 0)
    slots = {name: _slots(fraction, group) for name, group in footprint.groups.items()}
    resident = min(footprint.static_bytes, dram_bytes)
    return Allocation(fraction, slots, resident, max(0.0, -room))


def _slots(fraction: float, group: GroupSize) -> int:
    return math.floor(fraction * group.units + _PART)
