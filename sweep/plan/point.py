"""A point: one configuration of a sweep, and what is known of the method that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from methods.experts.rules import Rule
from methods.names import Swap
from methods.registry import method_class
from methods.shared import Shared, scoring_parameters
from methods.static.coded import Coded
from methods.static.pruning import StaticPruning
from simulator.cache_shares import Shares
from simulator.device import Device
from simulator.geometry import Geometry, Storage
from simulator.policies import policy_class
from sweep.keys import digest
from sweep.spec.names import DEFAULT_BITS, FILE_BITS

Parameters = tuple[tuple[str, object], ...]
CACHED_SELECTORS = ("cache-aware", "read-aware", "resident-threshold")
"""Those whose masks depend on what is cached."""
FIXED_CONTENT = ("none", "static", "hot-set")
"""Policies under which a cache holds the same units for good, or none."""
READ_AWARE = {
    "natural": (*FIXED_CONTENT, "lru", "lfu"),
    "hot": FIXED_CONTENT,
    "coactive": FIXED_CONTENT,
}
"""Policies that read-aware selection knows, by layout: in an order of its own those that break no
ties, which go to the lower unit and not to the one that lies first."""


@dataclass(frozen=True, slots=True)
class Quant:
    """What is done to the weights, and the bits that the simulator counts for them.

    `bits` 0 stands for those of the model's files, whatever the other sizes are. `parameters` holds
    all of the quantiser's own parameters, defaults included, sorted by name.
    """

    method: str = "none"
    bits: float = 4
    group_size: int = 128
    embedding_bits: float = 4
    parameters: Parameters = ()

    @property
    def of_file(self) -> bool:
        """Whether the bits of the model's files are counted."""
        return self.bits == FILE_BITS

    @property
    def embeddings(self) -> int:
        """Bits that embedding and head are rounded to; 0 if they are left as they are."""
        return int(str(dict(self.parameters).get("embeddings", 0)))


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
    bos: str = "each-window"
    window_order: str = "first"
    dense_tokens: int = 0
    distances: bool = False

    def to_mapping(self) -> dict[str, str | int | None]:
        """The fields as a plain mapping, without those that earlier releases did not have where
        they have the value that was meant then."""
        every = {field: getattr(self, field) for field in self.__slots__}
        meant: dict[str, object] = {"bos": "each-window", "window_order": "first"}
        meant |= {"dense_tokens": 0, "distances": False}
        if self.windows is None:
            meant["window_order"] = self.window_order  # all windows come in the text's own order
        return {field: value for field, value in every.items() if meant.get(field) != value}


@dataclass(frozen=True, slots=True)
class MethodTraits:
    """What planning and the table ask about a method. The points of a sweep share one for each."""

    name: str
    groups: tuple[str, ...]
    """Groups that its masks prune; none of a dense or a statically pruned model."""
    selector: str
    """The selector that is its own."""
    trained: Literal["", "once", "each density"]
    """Whether it is trained before use: never, once for all densities, or for each of them. With
    some parameters there may be nothing to train."""
    calibrated_as: str
    """The method whose calibration it reads: its own name, or that of another."""
    calibration_parameters: frozenset[str]
    """Parameters that can change this calibration: scores are of dense runs, so none that only
    splits the density, as `layers` does."""
    static: bool
    """Whether it prunes weights once, for every token."""
    updates: bool
    """Whether static pruning changes the weights that it keeps."""
    oracle: bool
    """Whether it knows the future, so that no device can run it."""
    rotates: bool = False
    """Whether it puts rotated weights in the place of the model's."""
    quantised_after: bool = False
    """Whether what it has rotated can be quantised then."""
    routes: bool = False
    """Whether it chooses the experts of a mixture of experts."""
    coded: bool = False
    """Whether it runs as the dense model, whose weights are stored in a code of the method's."""

    @property
    def dense(self) -> bool:
        """Whether nothing is pruned."""
        return self.coded or self.name == "dense"

    @property
    def reads_cache(self) -> bool:
        """Whether it is a rule whose choice of experts depends on what is cached."""
        return self.routes and self.selector == "cache-aware"

    @property
    def no_pool(self) -> str:
        """Why its layers cannot share one cache; empty if they can."""
        if not self.routes:
            return "one pool for all layers (cache.pool: model) is for experts"
        if self.reads_cache:
            return (
                f"{self.name} reads the cache: in one pool for all layers its choice would depend "
                "on later layers, which one pass does not know yet"
            )
        return ""

    def with_parameters(self, parameters: Parameters) -> MethodTraits:
        """These traits with the groups, the selector and the rotation that the method has with
        these parameters."""
        registered, given = method_class(self.name), dict(parameters)
        groups, selector = registered.groups_with(given), registered.selector_with(given)
        shared = issubclass(registered, Shared)
        rotates = registered.rotates_with(given) if shared else self.rotates
        if (groups, selector, rotates) == (self.groups, self.selector, self.rotates):
            return self
        return replace(self, groups=groups, selector=selector, rotates=rotates)

    @classmethod
    def of(cls, method: str) -> MethodTraits:
        """The traits of a registered method. Raises MethodError for an unknown one."""
        registered = method_class(method)
        calibrated_as = registered.calibrated_as or method
        counting = scoring_parameters(method_class(calibrated_as))
        static = issubclass(registered, StaticPruning)
        return cls(
            name=method,
            groups=registered.groups,
            selector=registered.selector,
            trained=registered.trained,
            calibrated_as=calibrated_as,
            calibration_parameters=counting,
            static=static,
            updates=static and registered.updates,
            oracle=bool(registered.oracle),
            rotates=registered.rotates,
            quantised_after=getattr(registered, "quantised_after", False),
            routes=issubclass(registered, Rule),
            coded=issubclass(registered, Coded),
        )


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
    traits: MethodTraits = field(compare=False, repr=False)
    """What planning and the table ask about the method; told by its name, so no part of the key."""
    kv_bits: float = 8
    kv_tokens: int = 2048
    geometry: Geometry | None = None
    """Sizes given in the sweep file; None leaves them to the model."""
    swap: Swap | None = None
    """Another activation in the place of the model's own."""
    chunk: int = 1
    """Neighbouring units that are chosen, cached and read as one."""
    layout: str = "natural"
    """Order of the units in Flash; it matters on devices that say what a read costs."""
    pool: bool = False
    """Whether the experts of all layers share one cache."""
    preload_layers: int = 0
    """Layers that are announced, lie bundled and are read ahead together; 0 for none."""
    lam: float | None = None
    """What a second of reads is worth in read-aware selection; None where its price is the one that
    meets the density. With a price `density` is only what orders of units are counted at."""
    cache_shares: Shares = ()
    """What each group gets of the caches' bytes; empty where all are cached to the same part."""

    @property
    def variant(self) -> str:
        """The model with what is done to it before all else: what differs in it is compared as
        another model."""
        return f"{self.model} {self.swap}" if self.swap else self.model

    @property
    def key(self) -> str:
        """16 hexadecimal digits over everything but the sweep's name and the device's prose."""
        device, quant = self.device, self.quant
        later: dict[str, Any] = {}  # what earlier releases did not have is left out where unused
        if self.chunk != 1:
            later["chunk"] = self.chunk
        if self.pool:
            later["pool"] = True
        if self.lam is not None:
            later["lam"] = self.lam
        if self.cache_shares:
            later["cache_shares"] = self.cache_shares
        if further := _further(device):
            later["flash"] = {"layout": self.layout, **further}
        if self.preload_layers:
            later["preload_layers"] = self.preload_layers
        speeds = [device.dram_gb, device.flash_gbps, device.dram_gbps, self.timing]
        return digest(
            {
                "model": self.variant,
                "geometry": self.geometry and self.geometry.to_mapping(),
                "quant": [getattr(quant, name) for name in quant.__slots__],
                "method": [self.method, self.density, self.parameters],
                "selector": [self.selector, self.gamma],
                "cache": [self.policy, self.cache_start, self.cache_scope],
                "device": [device.name, *speeds],
                "accuracy": self.accuracy.to_mapping(),
                "kv": [self.kv_bits, self.kv_tokens],
                **later,
            }
        )

    def as_dense(self) -> Point:
        """The dense model of the same weights on the same device."""
        dense = MethodTraits.of("dense")
        return replace(self, method="dense", density=1.0, parameters=(), chunk=1, traits=dense)

    @property
    def counts_hits(self) -> bool:
        """Whether its selector counts hits itself, so that no trace is simulated."""
        own = self.selector in ("cache-aware", "resident-threshold")
        return own and not self.device.read_cost()

    @property
    def at_depths(self) -> bool:
        """Whether a report can price its reads at other depths: its device has several tables."""
        single = self.preload_layers or self.pool
        return len(self.device.flash) > 1 and not single and bool(self.traits.groups)

    @property
    def has_thresholds(self) -> bool:
        """Whether its selector has thresholds, which calibration finds."""
        return self.selector.endswith("-threshold")

    @property
    def storage(self) -> Storage:
        """How the simulator stores the weights and the KV cache of this point, but for the bits of
        the model's files (`Materials.storage` knows those)."""
        quant = self.quant
        rounded = quant.embeddings
        return Storage(
            bits=DEFAULT_BITS[0] if quant.of_file else quant.bits,
            group_size=quant.group_size,
            embedding_bits=rounded or quant.embedding_bits,
            kv_bits=self.kv_bits,
            kv_tokens=self.kv_tokens,
            mlp_share=self.density if self.traits.static else 1,
            embedding_group=quant.group_size if rounded else 0,
        )


_PAPER = ("name", "dram_gb", "flash_gbps", "dram_gbps", "timing", "source", "title")
"""Fields of a device as the paper has it; what it says beyond them costs time."""
_PROSE = ("flash_read_kib", "dram_cases")


def _further(device: Device) -> dict[str, Any]:
    """What a device says beyond the paper's three numbers and their prose; empty for most."""
    further = [f for f in fields(device) if f.name not in (*_PAPER, *_PROSE)]
    said = [f.name for f in further if getattr(device, f.name) != f.default]
    plain = device.to_mapping() if said else {}
    return {name: plain[name] for name in said}


def paper_device(device: Device) -> Device:
    """The device as the paper would have it: three numbers."""
    defaults = {f.name: f.default for f in fields(device) if f.name in _further(device)}
    return replace(device, **defaults)


def evaluation_identity(point: Point, dense: bool, slots: tuple[tuple[str, int], ...]) -> Any:
    """Equal for points whose evaluations are the same tasks."""
    quant = point.quant
    changed = (quant.method, quant.bits, quant.group_size, quant.parameters)
    shared = (point.variant, None if quant.method == "none" else changed, point.accuracy)
    if dense:
        return shared
    masked = (*shared, point.method, point.density, point.parameters, point.chunk)
    if point.selector not in CACHED_SELECTORS:
        return (*masked, point.selector)
    cost = point.device.read_cost()
    if point.selector == "read-aware":
        storage = (point.storage, point.geometry, point.device.align_bytes)
        masked = (*masked, "read-aware", point.lam, cost, storage, point.layout)
    if point.has_thresholds:
        masked = (*masked, point.selector)
    masked = (*masked, bool(cost))
    return (*masked, point.gamma, point.policy, slots, point.cache_scope, point.cache_start)


def is_ordered(point: Point) -> bool:
    """Whether the cache begins with an order of units, which calibration makes."""
    return point.cache_start == "hot" or policy_class(point.policy).needs_start
