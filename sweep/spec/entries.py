"""The shape of the sweep file, as pydantic models. `sweep.spec.file` reads files with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import core_schema

import methods
import simulator
from methods.static import quantiser
from simulator.device import TIMINGS, Device
from simulator.geometry import Geometry
from sweep.messages import show
from sweep.spec import values as fields
from sweep.spec.entry import Part
from sweep.spec.resources import Resources
from sweep.spec.spaces import Searched
from sweep.spec.values import Axis, Label, Name, Natural, Number, Positives, Shares, Whole, Words

ALIASES: Mapping[str, tuple[str, float]] = {"dip-ca": ("dip", 0.2)}
"""Names for a method with a gamma of its own (paper, section 6.1)."""

SELECTORS = ("topk", "layer-threshold", "global-threshold")
TEXTS = ("embedded-wiki", "embedded-c4", "wikitext2")
SAMPLERS = ("tpe", "nsga2", "gp", "random", "grid")
METRICS = (
    "tokens_per_s",
    "delta_ppl",
    "ppl",
    "mlp_density",
    "hit_rate",
    "flash_bytes_per_token",
)
TUNING_TEXTS = ("embedded-wiki-validation", "embedded-c4-validation", "wikitext2-validation")
BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")


MAPPINGS = ("allocation",)
"""Parameters of methods that may be a mapping: a fit of one's own, {slope, intercept}."""


def parameter_values(value: Any) -> tuple[Any, ...]:
    """The values of a method's parameter: an axis, where a mapping that is no range is one value.

    Raises PydanticCustomError.
    """
    is_range = isinstance(value, dict) and (not value or {"from", "to", "step"} & set(value))
    return (value,) if isinstance(value, dict) and not is_range else fields.spread(value)


def method_names() -> tuple[str, ...]:
    """Names that `method:` takes: the methods and their aliases."""
    return (*methods.names(), *ALIASES)


def _model_names() -> tuple[str, ...]:
    """Models that are built in: those whose sizes are known, and those whose hub id is."""
    from sweep.inputs.model_ref import HUB_IDS

    return tuple(sorted({*Geometry.names(), *HUB_IDS}))


def _policy_names() -> tuple[str, ...]:
    return tuple(simulator.POLICIES)


class _Budget:
    """Annotation: a number (+0.2 perplexity) or text such as 5% (of the dense perplexity)."""

    _NUMBER: ClassVar = Number(at_least=0, at_most=1e6)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip().endswith("%"):
            return f"{self._NUMBER.check(value):.12g}"
        try:
            share = self._NUMBER.check(float(value.strip()[:-1]))
        except ValueError:
            expected = "a budget is a number, or a share written as 5%"
            raise fields.wrong(f"{show(value)} is given; {expected}") from None
        return f"{share:.12g}%"

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        share = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"}
        return {"anyOf": [{"type": "number", "minimum": 0}, share]}


def _dtypes() -> tuple[str, ...]:
    return ("float32", "bfloat16")


def _device_reason(text: str) -> str:
    """Why text is no device's name; whether one of that name is described is checked later."""
    return "" if fields.LABEL.fullmatch(text) else "letters, digits, '-' and '_' make no"


MethodName = Annotated[str, Name("method", method_names)]
SelectorName = Annotated[str, Name("selector", lambda: SELECTORS)]
PolicyName = Annotated[str, Name("policy", _policy_names)]
TimingName = Annotated[str, Name("timing", lambda: TIMINGS)]
ModelName = Annotated[str, Name("model", _model_names, fields.model_reason)]
TextName = Annotated[str, Name("text", lambda: TEXTS, fields.text_reason)]
Policies = Annotated[tuple[PolicyName, ...], Axis()]
Timings = Annotated[tuple[TimingName, ...], Axis()]
ModelNames = Annotated[tuple[Words, ...], Axis()]
Bits = Annotated[float, Number(above=0, at_most=32)]


def _quantiser_parameters() -> list[str]:
    return [p for name in quantiser.names() for p in quantiser.parameter_names(name)]


def _quant_names() -> tuple[str, ...]:
    return ("none", *quantiser.names())


class GeometryEntry(Part):
    """Sizes of a model that is neither built in nor described by a config.json; or a name."""

    layers: Whole
    hidden: Whole
    intermediate: Whole
    heads: Whole
    kv_heads: Whole
    head_dim: Whole
    vocabulary: Whole
    tied_embeddings: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        sizes = Geometry.load(Name("geometry", Geometry.names).check(value)).to_mapping()
        return {key: size for key, size in sizes.items() if key != "name"}

    @classmethod
    def _text_schema(cls, properties: dict[str, Any]) -> dict[str, Any]:
        return {"enum": list(Geometry.names())}


class ModelEntry(Part):
    """A model: built-in name, hub id, or local path; `geometry` replaces what its config says."""

    shorthand = "model"
    model: ModelName
    geometry: GeometryEntry | None = None

    def load_geometry(self) -> Geometry | None:
        """The geometry that the file gives, None if it leaves that to the model."""
        if self.geometry is None:
            return None
        return Geometry.load({"name": self.model, **self.geometry.model_dump()})


class QuantEntry(Part):
    """What is done to the weights, and the bits that the simulator counts. Lists are axes."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    shorthand = "method"
    method: Annotated[tuple[Annotated[str, Name("quantisation", _quant_names)], ...], Axis()]
    bits: Annotated[tuple[Bits, ...], Axis()] = (4.0,)
    group_size: Annotated[tuple[Natural, ...], Axis()] = (128,)
    embedding_bits: Annotated[tuple[Bits, ...], Axis()] = (4.0,)

    @classmethod
    def own_keys(cls) -> list[str]:
        return _quantiser_parameters()

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of each of the quantiser's own parameters."""
        return {key: fields.spread(value) for key, value in (self.model_extra or {}).items()}


class DeviceEntry(Part):
    """A preset with what is given put over it, or a device of the user's own. Lists are axes."""

    shorthand = "device"
    device: Annotated[str, Name("device", Device.names, _device_reason)]
    dram_gb: Positives = ()
    flash_gbps: Positives = ()
    dram_gbps: Positives = ()
    timing: Timings = ()
    title: Words = ""
    source: Words = ""
    models: ModelNames = ()


class MethodEntry(Part):
    """Methods with their densities and parameters; every list is an axis of this entry alone."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    shorthand = "method"
    method: Annotated[tuple[MethodName, ...], Axis()]
    density: Shares = ()
    gamma: Shares = ()
    selector: Annotated[tuple[SelectorName, ...], Axis()] = ()
    """How scores become a mask; empty leaves it to each method. gamma below 1 takes its place."""
    policies: Policies = ()
    models: ModelNames = ()
    quant: Annotated[tuple[QuantEntry, ...], Axis()] = ()
    devices: Annotated[tuple[DeviceEntry, ...], Axis()] = ()

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of each of the method's own parameters."""
        return {key: parameter_values(v) for key, v in (self.model_extra or {}).items()}


class ExcludeRule(Part):
    """Drops every point that matches all its keys; a list matches any of its values."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    model: ModelNames = ()
    method: Annotated[tuple[MethodName, ...], Axis()] = ()
    density: Shares = ()
    gamma: Shares = ()
    policy: Policies = ()
    device: ModelNames = ()
    dram_gb: Positives = ()
    flash_gbps: Positives = ()
    dram_gbps: Positives = ()
    timing: Timings = ()
    quant: Annotated[tuple[Annotated[str, Name("quantisation", _quant_names)], ...], Axis()] = ()
    bits: Annotated[tuple[Bits, ...], Axis()] = ()

    @property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Values of parameters of methods that the rule asks for."""
        return {key: parameter_values(v) for key, v in (self.model_extra or {}).items()}


class Cache(Part):
    """How a cache starts, empty or hot, and how long it lives, a window or a whole shard."""

    start: Annotated[
        tuple[Annotated[str, Name("cache start", lambda: ("empty", "hot"))], ...], Axis()
    ] = ("empty",)
    scope: Annotated[
        tuple[Annotated[str, Name("cache scope", lambda: ("window", "carry"))], ...], Axis()
    ] = ("window",)


class KV(Part):
    """The KV cache that the simulator counts."""

    bits: Annotated[float, Number(at_least=0, at_most=32)] = 8.0
    tokens: Natural = 2048


class TaskEntry(Part):
    """A downstream task of lm-evaluation-harness."""

    shorthand = "task"
    task: Words
    """A task, group or tag of lm-eval's, or a task file, or a folder of them, of the user's own."""
    name: Label | None = None
    """Of the column, where the task's own will not do."""
    shots: Natural | None = None
    """Examples before each question; None leaves that to the task."""
    limit: Whole | None = None
    """Documents of each task, of a group of each of its tasks; None is all."""
    metric: Words = ""
    """Empty: acc, else exact_match, else the first mean that the task has."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """Over the task's own settings: max_gen_toks, until."""
    max_length: Whole | None = None
    """Tokens of a prompt and its answer; None is as many as the model was made for."""
    data: Words = ""
    """A folder with the data set of a task of lm-eval's, in place of the hub."""
    shard: Whole = 256
    """Documents of one unit of work."""


class Settings(Part):
    """Keys that `defaults` and every sweep take; a sweep's own value wins."""

    seed: Natural = 0
    text: TextName = "embedded-wiki"
    calibration: TextName = "embedded-c4"
    windows: Annotated[
        int | None, Number(at_least=1, at_most=1e9, whole=True, words={"all": None})
    ] = 2
    """Windows to evaluate; None (`all`) is the whole text."""
    window_tokens: Annotated[int, Number(at_least=2, at_most=1e7, whole=True)] = 2048
    shard_windows: Annotated[int, Number(at_least=1, at_most=1e9, whole=True)] = 1
    dtype: Annotated[str, Name("dtype", _dtypes)] = "float32"
    quant: Annotated[tuple[QuantEntry, ...], Axis()] = (QuantEntry(method=("none",)),)
    policies: Policies = ("lfu",)
    cache: Cache = Cache()
    timing: Timings = ()
    """How Flash and DRAM traffic combine; empty leaves it to each device."""
    kv: KV = KV()
    budgets: Annotated[tuple[Annotated[str, _Budget()], ...], Axis(or_none=True)] = BUDGETS
    tasks: Annotated[tuple[TaskEntry, ...], Axis(or_none=True)] = ()
    resources: Resources = Resources()
    priority: dict[MethodName, Annotated[float, Number(at_least=-1e9, at_most=1e9)]] = Field(
        default_factory=dict
    )
    """Methods whose tasks run before (above 0) or after (below 0) those of others."""
    keep_traces: bool = False


class SweepEntry(Settings):
    """A sweep as the file gives it."""

    description: Words = ""
    models: Annotated[tuple[ModelEntry, ...], Axis()]
    methods: Annotated[tuple[MethodEntry, ...], Axis()]
    devices: Annotated[tuple[DeviceEntry, ...], Axis()]
    include: Annotated[tuple[MethodEntry, ...], Axis(or_none=True)] = ()
    exclude: Annotated[tuple[ExcludeRule, ...], Axis(or_none=True)] = ()


Metrics = Annotated[tuple[Annotated[str, Name("metric", lambda: METRICS)], ...], Axis()]


class Objective(Part):
    """What a study maximises and minimises, one or two metrics, and the budget it must keep."""

    maximize: Metrics = ()
    minimize: Metrics = ()
    within: Annotated[str, _Budget()] | None = None

    @property
    def metrics(self) -> dict[str, Literal["maximize", "minimize"]]:
        """The direction of each metric, in the order of the objectives."""
        goals: dict[str, Literal["maximize", "minimize"]] = {}
        goals.update((metric, "maximize") for metric in self.maximize)
        goals.update((metric, "minimize") for metric in self.minimize)
        return goals


class StudyEntry(Part):
    """A search over a sweep's parameters, once for each of its models, weights and devices."""

    description: Words = ""
    sweep: Words
    search: dict[str, Annotated[Any, Searched()]]
    """{name: [low, high]}, {from, to, step or log}, or a list of names (`sweep.spec.spaces`)."""
    objective: Objective
    method: MethodEntry = MethodEntry(method=("dip",))
    """The method that is tuned, with one value for all that is not searched."""
    devices: Annotated[tuple[DeviceEntry, ...], Axis()] = ()
    """In place of the sweep's devices."""
    text: Annotated[str, Name("text", lambda: TUNING_TEXTS, fields.text_reason)] | None = None
    """What trials are measured on, never the sweep's text; None is its validation part."""
    windows: Annotated[int, Number(at_least=1, at_most=1e9, whole=True)] | None = None
    """Windows of a trial; None is the sweep's number."""
    shard_windows: Whole | None = None
    trials: Whole = 60
    """Trials for each model, weights and device."""
    batch: Whole = 4
    """Trials that are asked for together."""
    sampler: Annotated[str, Name("sampler", lambda: SAMPLERS)] = "tpe"
    prune: bool = True
    """Whether a trial that is clearly worse stops before all its windows are evaluated."""
    enqueue: Annotated[tuple[dict[str, Any], ...], Axis(or_none=True)] | None = None
    """Points to try first; None is a safe one and the paper's."""
    fit: Annotated[str, Name("fit", lambda: ("allocation",))] | None = None
    """`allocation`: fit dip's split of the density to the frontier that is found (B.1)."""


class FileEntry(Part):
    """The whole file."""

    plugins: Annotated[tuple[Words, ...], Axis(or_none=True)] = ()
    defaults: Settings = Settings()
    sweeps: Annotated[dict[Label, SweepEntry], Field(min_length=1)]
    studies: dict[Label, StudyEntry] = Field(default_factory=dict)


class Sweep(SweepEntry):
    """A sweep by name, complete: what it leaves out has been taken from the defaults."""

    name: str
    source: str
    """The file that it is from."""
