"""The shape of `studies:`: what is searched, and for what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from sweep.spec import values as fields
from sweep.spec.entries import DeviceEntry, MethodEntry
from sweep.spec.entry import Entry
from sweep.spec.names import Budget
from sweep.spec.spaces import Searched
from sweep.spec.values import Axis, Name, Natural, Number, Whole, Words

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

Metrics = Annotated[tuple[Annotated[str, Name("metric", lambda: METRICS)], ...], Axis()]


class Objective(Entry):
    """What a study maximises and minimises, one or two metrics, and the budget it must keep."""

    maximize: Metrics = ()
    """Metrics of which more is better; two metrics in all give a frontier."""
    minimize: Metrics = ()
    """Metrics of which less is better."""
    within: Annotated[str, Budget()] | None = None
    """Perplexity that may be lost: 0.2 is absolute, 5% relative to dense; left out: any."""

    @property
    def metrics(self) -> dict[str, Literal["maximize", "minimize"]]:
        """The direction of each metric, in the order of the objectives."""
        goals: dict[str, Literal["maximize", "minimize"]] = {}
        goals.update((metric, "maximize") for metric in self.maximize)
        goals.update((metric, "minimize") for metric in self.minimize)
        return goals


class StudyEntry(Entry):
    """A search over a sweep's parameters, once for each of its models, weights and devices."""

    description: Words = ""
    """One sentence about the study."""
    sweep: Words
    """The sweep whose models, texts, windows, devices and cache are used."""
    search: dict[str, Annotated[Any, Searched()]]
    """What is searched, by name: density, gamma, method, policy, selector, chunk, cache_shares,
    quant and bits, a parameter of the methods, which trials of methods without it leave out; or
    input and intermediate, the densities of dip's two groups; or layers, as [-1, 1], logits that
    share the density out over the layers. Each is [low, high], {from, to, step},
    {from, to, log: true} or a list of names."""
    objective: Objective
    """What the study is after, as {maximize: tokens_per_s, within: 5%}."""
    method: MethodEntry = MethodEntry(method=("dip",))
    """What is fixed: an entry like those of `methods`, with one value for all that is not
    searched; left out: dip."""
    devices: Annotated[tuple[DeviceEntry, ...], Axis()] = ()
    """In place of the sweep's devices."""
    text: Annotated[str, Name("text", lambda: TUNING_TEXTS, fields.text_reason)] | None = None
    """What trials are measured on, never the sweep's text; left out: its validation part."""
    windows: Annotated[int, Number(at_least=1, at_most=1e9, whole=True)] | None = None
    """Windows of a trial; left out: as many as the sweep's."""
    shard_windows: Whole | None = None
    """Windows of one task; a trial can stop early after each. Left out: as many as the sweep's."""
    trials: Whole = 60
    """Trials for each model, weights and device."""
    batch: Whole = 4
    """Trials that are asked for together."""
    sampler: Annotated[str, Name("sampler", lambda: SAMPLERS)] | None = None
    """Optuna's sampler that proposes trials; grid goes through all combinations. Left out: gp, and
    tpe for two objectives."""
    seed: Natural | None = None
    """Seed of the sampler; left out: the sweep's. Windows stay those of the sweep's seed."""
    prune: bool = True
    """Whether a trial that is clearly worse stops before all its windows are evaluated."""
    enqueue: Annotated[tuple[dict[str, Any], ...], Axis(or_none=True)] | None = None
    """Points to try first, as [{gamma: 0.2, density: 0.8}]; left out: a safe and the paper's."""
    known: bool = True
    """Whether points that the store has already enter as trials, beside those that are asked."""
    fit: Annotated[str, Name("fit", lambda: ("allocation",))] | None = None
    """allocation: fit dip's split of the density to the frontier that is found (appendix B.1)."""
