"""The shape of a sweep, as pydantic models; the text under a key is its line of the manual.

`sweep.spec.file` reads files with it, `sweep.spec.schema_page` writes docs/sweep-file.md from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

import methods
from methods.static import quantiser
from simulator.device import Device
from sweep.spec import describe
from sweep.spec import values as fields
from sweep.spec.entry import Entry
from sweep.spec.names import (
    BUDGETS,
    Batch,
    Bits,
    BosName,
    Budgets,
    CacheShares,
    DtypeName,
    LayoutName,
    ModelNames,
    Policies,
    QuantName,
    SelectorName,
    TextName,
    Timings,
    Windows,
)
from sweep.spec.resources import KV, Cache, Certify, ModelEntry, Resources
from sweep.spec.values import Axis, Label, Name, Natural, Number, Positives, Shares, Whole, Words

ALIASES: Mapping[str, tuple[str, float]] = {"dip-ca": ("dip", 0.2)}
"""Names for a method with a gamma of its own (paper, section 6.1)."""


def method_names() -> tuple[str, ...]:
    """Names that `method:` takes: the methods and their aliases."""
    return (*methods.names(), *ALIASES)


def _device_reason(text: str) -> str:
    """Why text is no device's name; whether one of that name is described is checked later."""
    return "" if fields.LABEL.fullmatch(text) else "letters, digits, '-' and '_' make no"


MethodName = Annotated[str, Name("method", method_names)]


class QuantEntry(Entry):
    """What is done to the weights of all linear layers, and the bits that the simulator counts."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    shorthand = "method"
    method: Annotated[tuple[QuantName, ...], Axis()]
    """How weights are rounded; none leaves their values as published, and only counts bits."""
    bits: Annotated[tuple[Bits, ...], Axis()] = ()
    """Bits of a weight; 16 more for each group, as scales or codebooks. `file`: those of each kind
    of weight in the model's files, embeddings too. Left out: file where weights come quantised
    (GGUF, packed safetensors) and the method is none, else 4; 4 for built-in models."""
    group_size: Annotated[tuple[Natural, ...], Axis()] = (128,)
    """Weights of a row that share a scale of 16 bits, or as much of a codebook, the last of a row
    too where its length cuts them; 0 counts no scales."""
    embedding_bits: Annotated[tuple[Bits, ...], Axis()] = (4.0,)
    """Bits of a weight of embedding and head; they are counted and not rounded, but by rtn with
    `embeddings`, whose bits and group_size take their place."""

    @classmethod
    def own_keys(cls) -> list[str]:
        return [p for name in quantiser.names() for p in quantiser.parameter_names(name)]

    @classmethod
    def own_schema(cls) -> dict[str, Any]:
        return describe.quantiser_parameters()

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of each of the quantiser's own parameters."""
        return {key: fields.spread(value) for key, value in (self.model_extra or {}).items()}

    @property
    def most(self) -> int:
        """Quantisations, if none fell together."""
        axes = (self.method, self.bits, self.group_size, self.embedding_bits)
        return fields.combinations(*axes, *self.parameters.values())


class DeviceEntry(Entry):
    """A preset with what is given put over it, or a device of your own. Lists are axes."""

    shorthand = "device"
    device: Annotated[str, Name("device", Device.names, _device_reason)]
    """A preset (`sweep list devices`) whose values the other keys replace, or a name of your own,
    with dram_gb, flash_gbps and dram_gbps."""
    dram_gb: Positives = ()
    """DRAM that the model may use, in 1e9 bytes."""
    flash_gbps: Positives = ()
    """Read speed of Flash, in 1e9 bytes per second."""
    flash_read_kib: Annotated[float | None, Number(above=0, at_most=1e6)] = None
    """Reads that flash_gbps is meant for, of this many KiB and more; changes no figure."""
    dram_gbps: Positives = ()
    """Read speed of DRAM, in 1e9 bytes per second."""
    context: Annotated[tuple[Whole, ...], Axis(ranges=True)] = ()
    """Tokens that the KV cache holds; left out: as many as kv.tokens of the sweep."""
    timing: Timings = ()
    """In place of the sweep's: overlap or serial."""
    latency_us: Annotated[float | None, Number(at_least=0, at_most=1e9)] = None
    """What each read costs beside its bytes, in microseconds (docs/semantics.md 9)."""
    io_depth: Annotated[int | None, Number(at_least=1, at_most=1e6, whole=True)] = None
    """Reads in flight: which row of `flash` holds."""
    align_bytes: Annotated[int | None, Number(at_least=1, at_most=1e9, whole=True)] = None
    """A read begins and ends at multiples of so many bytes; 4096 for direct I/O."""
    compute_gbps: Annotated[float | None, Number(above=0, at_most=1e6)] = None
    """Bytes of weights that the processor takes in a second, in 1e9."""
    head_ms: Annotated[float | None, Number(at_least=0, at_most=1e9)] = None
    """Milliseconds of the output head, where they were measured."""
    flash: dict[str, Any] | None = None
    """Measured reads: {depth: {1: [[bytes, gbps], …], 8: …}}, the keys are reads in flight."""
    title: Words = ""
    """Its name in words."""
    source: Words = ""
    """Where its figures are from."""
    models: ModelNames = ()
    """Restricts the entry to some of the sweep's models; left out: all."""

    def most(self, timings: tuple[str, ...]) -> int:
        """Devices, if none fell together; `timings` are the sweep's."""
        axes = (self.dram_gb, self.flash_gbps, self.dram_gbps, self.context)
        return fields.combinations(*axes, self.timing or timings)


class MethodEntry(Entry):
    """Methods with their densities and parameters; every list is an axis of this entry alone."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    shorthand = "method"
    method: Annotated[tuple[MethodName, ...], Axis()]
    """Which method (`sweep list methods`); dip-ca is dip with gamma 0.2."""
    density: Shares = ()
    """Weights of the MLPs that a token uses, over all their weights; dense needs none."""
    gamma: Shares = ()
    """Below 1: cache-aware selection (paper, eq. 10) in place of topk, which needs lfu, lru or a
    policy of one's own that does not know the future. Left out: 1."""
    selector: Annotated[tuple[SelectorName, ...], Axis()] = ()
    """How scores become a mask: thresholds are of calibration text, read-aware weighs reads. gamma
    below 1 takes the place of topk alone. Left out: the method's own (mostly topk)."""
    chunk: Annotated[tuple[Whole, ...], Axis()] = (1,)
    """Units that are chosen, cached and read together: neighbours in the layout, by the sum of
    their scores. Not with thresholds; it must divide the units of each group."""
    cache_shares: CacheShares = ("by-bytes",)
    """Of the caches' bytes, what a group gets: by-bytes, equal, a number for inputs, or by group;
    what it cannot use goes to the others (docs/semantics.md 4)."""
    policies: Policies = ()
    """In place of the sweep's policies."""
    models: ModelNames = ()
    """Restricts the entry to some of the sweep's models; left out: all."""
    quant: Annotated[tuple[QuantEntry, ...], Axis()] = ()
    """In place of the sweep's quant."""
    devices: Annotated[tuple[DeviceEntry, ...], Axis()] = ()
    """In place of the sweep's devices."""

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of each of the method's own parameters."""
        return {key: fields.parameter_values(v) for key, v in (self.model_extra or {}).items()}

    @property
    def most(self) -> int:
        """Configurations, if none fell together."""
        axes = (self.method, self.density, self.gamma, self.selector, self.chunk, self.cache_shares)
        return fields.combinations(*axes, *self.parameters.values())


class ExcludeRule(Entry):
    """Drops every point that matches all its keys; a list matches any of its values."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    model: ModelNames = ()
    """Model, as the sweep names it."""
    method: Annotated[tuple[MethodName, ...], Axis()] = ()
    """Method."""
    density: Shares = ()
    """MLP density."""
    gamma: Shares = ()
    """gamma; 1 is selection that does not look at the cache."""
    policy: Policies = ()
    """Cache policy."""
    device: ModelNames = ()
    """Device, as the sweep names it."""
    dram_gb: Positives = ()
    """DRAM of the device, in 1e9 bytes."""
    flash_gbps: Positives = ()
    """Read speed of Flash, in 1e9 bytes per second."""
    dram_gbps: Positives = ()
    """Read speed of DRAM, in 1e9 bytes per second."""
    context: Annotated[tuple[Whole, ...], Axis()] = ()
    """Tokens that the KV cache holds."""
    timing: Timings = ()
    """How Flash and DRAM times combine."""
    quant: Annotated[tuple[QuantName, ...], Axis()] = ()
    """Method of the quantisation."""
    bits: Annotated[tuple[Bits, ...], Axis()] = ()
    """Bits of a weight."""

    @classmethod
    def own_schema(cls) -> dict[str, Any]:
        docs = super().own_schema()
        return {key: {"description": docs[key]["description"]} for key in docs}

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of parameters of methods that the rule asks for."""
        return {key: fields.parameter_values(v) for key, v in (self.model_extra or {}).items()}


class TaskEntry(Entry):
    """A downstream task of lm-evaluation-harness; those whose data `sweep fetch` gets are
    arc_challenge, arc_easy, boolq, gsm8k, hellaswag, mmlu, openbookqa, piqa and winogrande."""

    shorthand = "task"
    task: Words
    """A task, group or tag of lm-eval's, or a task file of your own, or a folder with one group, by
    path from the sweep file (its !function runs)."""
    name: Label | None = None
    """Name of the column acc_NAME; left out: the task's own."""
    shots: Natural | None = None
    """Examples before each question; left out: the task's own."""
    limit: Whole | None = None
    """Documents of a task, of a group those of each of its tasks; left out: all."""
    metric: Words = ""
    """What acc_NAME shows; left out: acc, else exact_match, else the first mean that it has."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """{max_gen_toks, until} in place of the task's own; generation is greedy."""
    max_length: Whole | None = None
    """Tokens of a prompt and its answer; left out: as many as the model was made for."""
    data: Words = ""
    """A folder with SPLIT.parquet, .jsonl or .arrow of the task's data set, in place of the hub."""
    shard: Whole = 256
    """Documents of one unit of work, which a killed run can lose."""


class Settings(Entry):
    """Keys that `defaults` and every sweep take; a sweep's own value wins."""

    seed: Natural = 0
    """Seed of everything that is random."""
    text: TextName = "embedded-wiki"
    """What perplexity is measured on: a built-in text, or the path of a text file."""
    text_title: Words = ""
    """Its name in reports; left out: the last part of a path."""
    calibration: TextName = "embedded-c4"
    """What thresholds, statistics, predictors and adapters are learnt from: as for `text`."""
    windows: Windows = 2
    """Windows of the text to evaluate, or all."""
    window_order: Annotated[str, Name("window order", lambda: ("spread", "first"))] = "spread"
    """spread: from four windows on, windows from all over the text in an order that the seed fixes,
    so that more go on from fewer; first: those at its start, as fewer than four always are."""
    window_tokens: Annotated[int, Number(at_least=2, at_most=1e7, whole=True)] = 2048
    """Tokens of a window, with what the tokenizer puts before a text."""
    bos: BosName = "each-window"
    """Which windows begin with what the tokenizer puts before a text (BOS), if it does: each, or
    the first of the text alone, as where the text is tokenised once (GPTQ), or none."""
    distances: bool = False
    """Measure KL and flips to dense, too; the cache folder holds 2 bytes a token and known word."""
    dense_tokens: Annotated[float, Number(at_least=0, at_most=1e7)] = 0
    """Tokens at the start of a window that methods leave alone; below 1, a part of the window."""
    shard_windows: Annotated[int, Number(at_least=1, at_most=1e9, whole=True)] = 1
    """Windows of one task: the unit of work that a killed run can lose."""
    dtype: DtypeName = "float32"
    """Numbers that the model computes with; bfloat16 is for screening."""
    batch: Batch = None
    """Windows at once on a GPU; auto: what fits. No result's key has it (docs/gpu.md)."""
    quant: Annotated[tuple[QuantEntry, ...], Axis()] = (QuantEntry(method=("none",)),)
    """What is done to the weights, and their bits; left out: none, the files' bits, else 4."""
    policies: Policies = ("lfu",)
    """Who leaves a full cache; none caches nothing, belady and min know the future; or window-8."""
    cache: Cache = Cache()
    """How a cache starts and how long it lives."""
    timing: Timings = ()
    """overlap: the longer of Flash and DRAM time; serial: their sum; left out: as the device."""
    layouts: Annotated[tuple[LayoutName, ...], Axis()] = ("natural",)
    """Order of the units in Flash, on devices that say what a read costs: natural is the model's,
    hot by how often the calibration text uses them, coactive those used together side by side."""
    preload_layers: Annotated[tuple[Natural, ...], Axis()] = (0,)
    """Layers whose masks are announced, and whose units lie together and are read together while
    those before them compute, of methods that announce (docs/semantics.md 9); 0 for none."""
    kv: KV = KV()
    """The KV cache that the simulator counts."""
    budgets: Budgets = BUDGETS
    """What may be lost of perplexity: 0.2, or 5% of dense; of accuracy: acc_mmlu=0.02; the KL to
    dense in nats: kl=0.02; or what a token may take: joule=0.4."""
    certify: Certify = Certify()
    """How `sweep run --until-certain` decides."""
    tasks: Annotated[tuple[TaskEntry, ...], Axis(or_none=True)] = ()
    """Downstream tasks beside the perplexity."""
    resources: Resources = Resources()
    """What each kind of task asks for."""
    priority: dict[MethodName, Annotated[float, Number(at_least=-1e9, at_most=1e9)]] = Field(
        default_factory=dict
    )
    """{method: number}: tasks above 0 run before the others, below 0 after them."""
    traces_gb: Annotated[float, Number(at_least=0, at_most=1e9)] = 2
    """Disk for the masks of evaluations: with them another policy or DRAM runs no model again."""
    keep_traces: bool = False
    """Whether all of them are kept, whatever they take."""


class SweepEntry(Settings):
    """A sweep: all models, methods, policies and devices with each other."""

    description: Words = ""
    """One sentence for `sweep list sweeps`."""
    models: Annotated[tuple[ModelEntry, ...], Axis()]
    """The models to compare on."""
    methods: Annotated[tuple[MethodEntry, ...], Axis()]
    """The methods, with densities and parameters; each entry expands by itself."""
    devices: Annotated[tuple[DeviceEntry, ...], Axis()]
    """The devices that are simulated; bandwidths cost no further evaluation."""
    include: Annotated[tuple[MethodEntry, ...], Axis(or_none=True)] = ()
    """Entries like those of `methods`, which `exclude` does not touch."""
    exclude: Annotated[tuple[ExcludeRule, ...], Axis(or_none=True)] = ()
    """Drops points that match all keys of one of these rules."""


class Sweep(SweepEntry):
    """A sweep by name, complete: what it leaves out has been taken from the defaults."""

    name: str
    source: str
    """The file that it is from."""

    @property
    def most_points(self) -> int:
        """Points if none fell together or were left out, by counting alone."""
        total = 0
        for entry in (*self.methods, *self.include):
            devices = sum(d.most(self.timing) for d in entry.devices or self.devices)
            policies = len(entry.policies or self.policies)
            quants = sum(quant.most for quant in entry.quant or self.quant)
            total += entry.most * quants * devices * policies
        ways = len(self.cache.ways) * len(self.layouts) * len(self.preload_layers)
        return total * ways * sum(len(model.swaps) for model in self.models)
