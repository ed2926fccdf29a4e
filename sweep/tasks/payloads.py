"""Payloads: all that can change the result of a task, by kind, as JSON; its key is their hash.

Written by `sweep.plan.payloads`, read by the function of each kind. `where` stands beside a payload
and names the places of what it knows by fingerprint; no key counts it.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from sweep.read_prices import Reads

# -- where things are ------------------------------------------------------------------------


class ModelWhere(TypedDict):
    """Where a worker finds the model, and a plug-in if the method is a user's own."""

    model: str
    """Name of a built-in model, folder or file."""
    sizes: NotRequired[str]
    """Sizes that were planned with, as JSON; a loaded model of others is refused."""
    plugin: NotRequired[str]
    """File name of the plug-in."""
    plugin_source: NotRequired[str]
    """Its source."""


class Where(ModelWhere):
    """Where a worker finds a model and a text."""

    text_name: str
    """Name of a built-in text, or a file."""
    batch: NotRequired[str]
    """Windows that run at once on a GPU; left out: as many as fit."""


class TrainWhere(Where):
    """Where a training finds what it needs, and keeps how far it is."""

    checkpoint: str
    """Name of its checkpoint in the cache folder."""


class ScoreWhere(ModelWhere):
    """Where a shard of a downstream task finds the model and the task."""

    asked: str
    """The entry of the sweep, as JSON (`sweep.downstream.task`)."""


# -- payloads --------------------------------------------------------------------------------


class SelectorPayload(TypedDict, total=False):
    """How masks are chosen; empty for a model that runs as a dense one."""

    name: str
    """`topk`, a threshold, or one that looks at the cache: `cache-aware`, `read-aware` or
    `resident-threshold`; all other keys but `chunk` are of these last three alone."""
    gamma: float
    """Weight of a unit that is not cached."""
    policy: str
    """Policy of the cache that it reads."""
    slots: dict[str, int]
    """Cached units of each layer, by group."""
    scope: str
    """`window` or `carry`: whether the cache begins anew with each window."""
    chunk: int
    """Neighbouring units that are chosen as one; left out for 1."""
    traced: bool
    """Whether a cache-aware selector hands over its masks; left out where it does not."""
    reads: Reads
    """How misses become reads, of a read-aware selector."""
    lam: float
    """What a second of their cost is worth; left out where the price is to meet a density."""


class ModelRun(TypedDict):
    """What every task that runs a model has."""

    weights: str
    """Fingerprint of the model's weights, configuration and tokenizer."""
    dtype: str
    """Type of the weights in memory."""
    threads: int
    """Threads of torch."""
    inputs: dict[str, str]
    """Keys of the tasks whose hand-over it takes, by role."""
    code: str
    """Fingerprint of the code that it runs."""
    activation: NotRequired[str]
    """What takes the place of the activation of its MLPs; left out for its own."""


class TextRun(ModelRun):
    """What a task that runs a model on a text has."""

    text: str
    """Fingerprint of the text."""
    window_tokens: int
    """Tokens of a window."""
    bos: NotRequired[str]
    """Which windows begin with what the tokenizer puts before a text; left out where it puts
    nothing there, and where they are those of the text tokenised once (`first-window`)."""


class MethodRun(ModelRun):
    """What a task that runs a method with a selector has."""

    method: str
    """Name of the method; `dense` for weights that are pruned already."""
    density: float
    """MLP density."""
    parameters: dict[str, Any]
    """The method's own, defaults included."""
    selector: SelectorPayload
    """How masks are chosen."""


class Distances(TypedDict):
    """What an evaluation is held against (`sweep.measures.distances`)."""

    dense: str
    """Hash of the payload of the dense run, without its windows."""
    weights: str
    """Key of the task that hands over its weights, one of the inputs; empty for the model's own."""


class Evaluate(TextRun, MethodRun):
    """Perplexity of a shard of windows."""

    windows: list[int]
    """Windows of the text."""
    dense_tokens: NotRequired[int]
    """Tokens at the start of each window that the method leaves alone; left out for none."""
    routed: NotRequired[bool]
    """Whether the method is a rule that chooses experts; left out for others."""
    priced: NotRequired[bool]
    """Whether its read-aware selector has a price; left out where it has none."""
    distances: NotRequired[Distances]
    """Of what the model expects to what the dense one does; left out where they are not asked
    for."""


class Score(MethodRun):
    """A shard of a downstream task."""

    task: str
    """Task of lm-eval, one of those that the entry stands for."""
    documents: list[int]
    """First document, and the one after the last."""
    prompts: str
    """Hash of all prompts of these documents."""
    settings: str
    """Hash of the task's settings."""
    task_code: str
    """Hash of the user's own task files; empty for a task of lm-eval's."""
    max_length: int | None
    """Tokens to which prompts are cut; None is what the model can take."""
    lm_eval: str
    """Version of lm-eval."""
    generation: NotRequired[str]
    """Fingerprint of the model's generation settings, of a task that lets it write."""
    share: NotRequired[bool]
    """Whether common beginnings are computed once: they are, but in benchmarks."""


class Calibrate(TextRun):
    """Order of units and counts of scores, of the method with nothing pruned."""

    method: str
    """Name of the method."""
    parameters: dict[str, Any]
    """Those of its parameters that can change its scores."""
    windows: list[int]
    """Windows of the calibration text."""


class CountUses(TextRun, MethodRun):
    """How many tokens use each unit, by the masks of a method: a calibration with a selector."""

    windows: list[int]
    """Windows of the calibration text."""
    routed: NotRequired[bool]
    """Whether experts are counted; left out for other units."""
    coactive: NotRequired[bool]
    """Whether units used together come side by side; left out where the most used come first."""


class Train(TextRun, MethodRun):
    """What a method learns before it is used."""

    windows: int
    """How many windows of the calibration text, from the first on."""
    study: NotRequired[str]
    """Sampler of the study whose trials it asks for; left out where it asks for none."""
    recipe: NotRequired[dict[str, Any]]
    """What quantises the weights that it has rotated: as of a `Transform`, with the `windows` of
    the calibration text that it is given and the `seed` of what it draws; left out for none."""
    seed: int
    """Of all that is drawn."""


class Transform(ModelRun):
    """Weights that are quantised or pruned once."""

    recipe: dict[str, Any]
    """Under `prune` and `quant`, the methods with their parameters; or an `activation` to learn, on
    so many `tokens`."""
    windows: list[int]
    """Windows of the calibration text; none where the recipe needs no data."""
    seed: NotRequired[int]
    """Of what the recipe draws, where it draws."""
    text: NotRequired[str]
    """Fingerprint of the calibration text, where data is needed."""
    window_tokens: NotRequired[int]
    """Tokens of a window, where data is needed."""
    bos: NotRequired[str]
    """As of a `TextRun`, where data is needed."""


class Simulate(TypedDict):
    """Hits of one policy and capacity on the trace of an evaluation, and the reads of its misses.

    With `reads`, the inputs may hold `order`, the units as they lie in Flash."""

    policy: str
    """Name of the policy."""
    slots: dict[str, int]
    """Cached units of each layer, by group."""
    scope: str
    """`window` or `carry`: whether the cache begins anew with each window."""
    inputs: dict[str, str]
    """Keys of the evaluation that leaves the `trace` and, where an order is needed, of `start`."""
    code: str
    """Fingerprint of the code that it runs."""
    pool: NotRequired[bool]
    """Whether all layers share one cache; left out where each has its own."""
    preload_layers: NotRequired[int]
    """Layers that are read ahead together; left out where none are."""
    reads: NotRequired[Reads]
    """Left out where a read costs nothing beside its bytes."""
    classes: NotRequired[bool]
    """Whether sizes of reads are counted in narrow classes; left out where they are not."""
