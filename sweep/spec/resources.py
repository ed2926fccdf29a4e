"""What a sweep gives its tasks and its devices: `resources`, `cache` and `kv` of the sweep file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from sweep.spec import values as fields
from sweep.spec.entry import Entry
from sweep.spec.values import Axis, Name, Natural, Number, Words

Memory = Annotated[float, Number(at_least=0, at_most=1e6)]
Amounts = dict[str, Annotated[float, Number(above=0, at_most=1e9)]]


class ModelResources(Entry):
    """What a task asks for that runs a model; what is left out is as for `evaluate`."""

    gpu: Annotated[float | None, Number(at_least=0, at_most=16, words={"auto": None})] = None
    """GPUs, possibly a fraction of one; auto is one where there is one, else none."""
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


class KV(Entry):
    """The KV cache that the simulator counts."""

    bits: Annotated[float, Number(at_least=0, at_most=32)] = 8.0
    """Bits of a number in it."""
    tokens: Natural = 2048
    """Tokens that it has room for."""
