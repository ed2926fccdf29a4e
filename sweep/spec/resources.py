"""What a sweep works with: `models`, `resources`, `cache` and `kv` of the sweep file."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from methods.names import Swap
from simulator.geometry import Geometry
from sweep.spec import values as fields
from sweep.spec.entry import Entry
from sweep.spec.names import ActivationName, ModelName, Windows
from sweep.spec.values import Axis, Name, Natural, Number, Whole, Words

Memory = Annotated[float, Number(at_least=0, at_most=1e6)]
Amounts = dict[str, Annotated[float, Number(above=0, at_most=1e9)]]


class GeometryEntry(Entry):
    """Sizes of a model that is neither built in nor described by a config.json; or a name."""

    layers: Whole
    """Decoder layers."""
    hidden: Whole
    """Inputs of an MLP, and of a layer."""
    intermediate: Whole
    """Units of an MLP."""
    heads: Whole
    """Heads of the attention."""
    kv_heads: Whole
    """Heads of keys and values: fewer than `heads` where queries share them."""
    head_dim: Whole
    """Width of a head."""
    vocabulary: Whole
    """Tokens that the model knows."""
    tied_embeddings: bool = False
    """Whether input and output share one embedding."""

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


class ModelEntry(Entry):
    """A model: built-in name, hub id, or local path; `geometry` replaces what its config says."""

    shorthand = "model"
    model: ModelName
    """A built-in name (`sweep list models`), a hub id (org/name or org/name@revision), or a folder
    or file on this machine."""
    geometry: GeometryEntry | None = None
    """Its sizes, in place of what its config.json says: a mapping, or a built-in model's name."""
    title: Words = ""
    """Its name in reports; left out: a GGUF file's own, else the last part of a path."""
    activation: Annotated[tuple[ActivationName, ...], Axis()] = ("none",)
    """What takes the place of the activation of its MLPs, before anything else is done to it: relu,
    drelu (on W_up x too) or relu2 (its square); none leaves its own."""
    distil_tokens: Annotated[tuple[Natural, ...], Axis()] = (0,)
    """Tokens of the calibration text on which the MLPs learn the new activation from the model as
    it was; more than there are read it again, 0 trains nothing."""

    def load_geometry(self) -> Geometry | None:
        """The geometry that the file gives, None if it leaves that to the model."""
        if self.geometry is None:
            return None
        return Geometry.load({"name": self.model, **self.geometry.model_dump()})

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if any(self.distil_tokens) and set(self.activation) == {"none"}:
            raise fields.wrong("distil_tokens are for another activation; name one: relu, say")
        return self

    @property
    def swaps(self) -> tuple[Swap | None, ...]:
        """Activations with the tokens that each is learnt on; None is the model's own."""
        both = product(self.activation, self.distil_tokens)
        made = (None if name == "none" else Swap(name, tokens) for name, tokens in both)
        return tuple(dict.fromkeys(made))


class ModelResources(Entry):
    """What a task asks for that runs a model; what is left out is as for `evaluate`."""

    gpu: Annotated[float | None, Number(at_least=0, at_most=16, words={"auto": None})] = None
    """GPUs, or a fraction of one; auto: one where there is one, or as many as a model takes."""
    memory_gb: Annotated[float | None, Number(at_least=0, at_most=1e6, words={"auto": None})] = None
    """Memory that must be free on the node, in 1e9 bytes; auto is estimated from the sizes of the
    model, and 0 does not ask."""
    accelerator: Words = ""
    """Type of the GPU as Ray names it, such as A100 or H100."""
    custom: Amounts = Field(default_factory=dict)
    """Custom resources of the Ray cluster, as {name: amount}."""

    @field_validator("gpu")
    @classmethod
    def _share_or_whole(cls, value: float | None) -> float | None:
        if value and value > 1 and value != int(value):
            raise fields.wrong(f"{value:g} is given; a fraction is of one GPU: up to 1, or whole")
        return value


class EvaluateResources(ModelResources):
    """What a task asks for that measures perplexity or accuracy."""

    cpu: Annotated[int, Number(at_least=1, at_most=4096, whole=True)] = 1
    """Cores, which are also the threads of every task with a model."""


class SimulateResources(Entry):
    """What a simulation task asks for."""

    cpu: Annotated[float, Number(above=0, at_most=4096)] = 1.0
    """Cores, possibly a fraction of one."""
    memory_gb: Memory = 0.0
    """Memory that must be free on the node, in 1e9 bytes; 0 does not ask."""
    custom: Amounts = Field(default_factory=dict)
    """Custom resources of the Ray cluster, as {name: amount}."""


class Resources(Entry):
    """What a task asks for, by its kind."""

    evaluate: EvaluateResources = EvaluateResources()
    """Tasks that measure perplexity or accuracy."""
    simulate: SimulateResources = SimulateResources()
    """Tasks that simulate devices."""
    calibrate: ModelResources = ModelResources()
    """Tasks that take statistics of the calibration text; what is left out is as for evaluate."""
    transform: ModelResources = ModelResources()
    """Tasks that prune or quantise weights; what is left out is as for evaluate."""
    train: ModelResources = ModelResources()
    """Tasks that train predictors or adapters; what is left out is as for evaluate."""

    def of_model(self, kind: str) -> ModelResources:
        """Needs of a kind that runs the model: its own, over those of `evaluate`."""
        needs = getattr(self, kind, None)
        if not isinstance(needs, ModelResources) or needs is self.evaluate:
            return self.evaluate
        changes = {name: getattr(needs, name) for name in needs.model_fields_set}
        return self.evaluate.model_copy(update=changes)


class Cache(Entry):
    """How a cache starts, empty or hot, and how long it lives, a window or a whole shard."""

    start: Annotated[
        tuple[Annotated[str, Name("cache start", lambda: ("empty", "hot"))], ...], Axis()
    ] = ("empty",)
    """Whether a cache starts empty, or hot: with the units that the calibration text uses most."""
    scope: Annotated[
        tuple[Annotated[str, Name("cache scope", lambda: ("window", "carry"))], ...], Axis()
    ] = ("window",)
    """Whether a cache lives for a window, or is carried through the windows of a task."""
    pool: Annotated[
        tuple[Annotated[str, Name("cache pool", lambda: ("layer", "model"))], ...], Axis()
    ] = ("layer",)
    """Whether each layer has a cache of its own, or the experts of all layers share one."""

    @property
    def ways(self) -> list[tuple[str, str, bool]]:
        """Every start, scope, and whether there is one pool."""
        pools = [pool == "model" for pool in self.pool]
        return list(product(self.start, self.scope, pools))


class Certify(Entry):
    """How sure a whole table of choices has to be, and what that may take."""

    alpha: Annotated[float, Number(above=0, at_most=0.99)] = 0.05
    """How often a table may have a wrong choice: 0.05 is 95 % for all its choices together."""
    most_windows: Windows = None
    """Windows that a choice may take at most; left out or all, as many as the text has. First are
    `windows`, 4 at least."""
    spare_windows: bool = True
    """Whether a choice that would need twice these, as it looks, gets no more. With `false` it
    does: more is run, and what turns out to be certain may be faster."""


class KV(Entry):
    """The KV cache that the simulator counts."""

    bits: Annotated[float, Number(at_least=0, at_most=32)] = 8.0
    """Bits of a number in it."""
    tokens: Natural = 2048
    """Tokens that it has room for."""
