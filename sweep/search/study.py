"""What a study of the sweep file means: its searches, the points of their trials, and its texts.

A study runs one search for each setting: a model, its weights and a device. A trial is a point of
the setting like those of a grid, only on another text: what is tuned on is never what is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from methods import MethodError, allocation
from methods.share_tables import GROUP_SENSITIVITY
from simulator.policies import CACHE_AWARE, cache_aware_policies
from sweep.allocation import files as allocations
from sweep.errors import InputError
from sweep.inputs import model_sizes, text_files
from sweep.messages import nearest, show
from sweep.plan.grid import expand
from sweep.plan.point import Point
from sweep.search.allocate import curve_files
from sweep.search.limits import measured
from sweep.search.trial_entry import GROUPS, Parameters, entry_of
from sweep.spec.entries import MethodEntry, QuantEntry, Sweep
from sweep.spec.file import SweepFile, select
from sweep.spec.spaces import (
    CACHE_SHARES,
    CHUNK,
    DIGITS,
    LAM,
    LAYERS,
    QUANT,
    Choices,
    Space,
    Span,
    bounds,
    combinations,
    is_layer,
    layer_names,
)
from sweep.spec.studies import TUNING_TEXTS, StudyEntry

if TYPE_CHECKING:
    from sweep.store.store import Store

TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Densities at which allocations are tried first and compared in the end (appendix B.1)."""


class ImpossibleError(InputError):
    """A choice of parameters that makes no point; the message says why."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study by name, with the sweep that its trials are points of and the one it reports."""

    name: str
    place: str
    entry: StudyEntry
    tuning: Sweep
    reported: Sweep
    space: dict[str, Space]
    settings: tuple[Point, ...]
    """The dense point of each model, weights and device, on the text that is tuned on. Where the
    quantisation is searched, that of the weights as they are."""
    quant: Mapping[str, Any] = field(default_factory=dict)
    """The quantisation that a searched name, or searched bits, are put over."""

    @property
    def sampler(self) -> str:
        """The one that is asked for, or the one that needs the fewest tokens."""
        return self.entry.sampler or ("gp" if len(self.entry.objective.metrics) == 1 else "tpe")

    @property
    def seed(self) -> int:
        """Of the sampler."""
        return self.tuning.seed if self.entry.seed is None else self.entry.seed

    @property
    def trials(self) -> int:
        """Trials of each setting: for `grid` all combinations."""
        return len(self.first) if self.sampler == "grid" else self.entry.trials

    @property
    def first(self) -> list[dict[str, Any]]:
        """Parameters of the first trials."""
        if self.sampler == "grid":
            return combinations({k: v for k, v in self.space.items() if isinstance(v, Choices)})
        if self.entry.enqueue is not None:
            return [dict(parameters) for parameters in self.entry.enqueue]
        return _allocations(self.space) or known_good(self.space)

    def complete_first(self) -> list[dict[str, Any]]:
        """`first` with a safe value for each parameter that an entry leaves to the sampler."""
        return [
            {k: parameters.get(k, _safe(v, k)) for k, v in self.space.items()}
            for parameters in self.first
        ]

    def near(self, best: Parameters, tried: Iterable[Parameters]) -> list[dict[str, Any]]:
        """What was not tried next to the best, where a study has a list."""
        return []

    def point(self, setting: Point, parameters: Parameters, reported: bool = False) -> Point:
        """The point of a trial, on the tuning or the reported text. Raises ImpossibleError."""
        sweep = self.reported if reported else self.tuning
        identity = self._setting(setting)
        points = [p for p in self._points(sweep, parameters) if self._setting(p) == identity]
        if len(points) != 1:
            raise ImpossibleError(f"{self.place}: {len(points)} points where one is searched")
        return points[0]

    def recalled(self, store: Store) -> Iterable[dict[str, Any]] | None:
        """Parameters of trials that the store answers, where the study can list all that it may
        try; None leaves it to what evaluations say of theirs (`known`)."""
        return None

    def dense(self, setting: Point) -> Point:
        """The dense point of a setting on the reported text."""
        return self.point(setting, {"method": "dense"}, reported=True)

    @property
    def searches_quant(self) -> bool:
        """Whether trials differ in what is done to the weights: then they are all measured against
        the dense model with the weights as they are."""
        return any(key in self.space for key in QUANT)

    def _setting(self, point: Point) -> tuple[Any, ...]:
        quant = None if self.searches_quant else point.quant
        return point.variant, quant, point.device, point.kv_tokens

    def _points(self, sweep: Sweep, parameters: Parameters) -> tuple[Point, ...]:
        try:
            entry = MethodEntry.model_validate(self._entry(parameters))
            return expand(sweep.model_copy(update={"methods": (entry,)})).points
        except (MethodError, InputError, PydanticCustomError, TypeError) as error:
            raise ImpossibleError(f"{self.place}: {error}") from None

    def _entry(self, parameters: Parameters) -> dict[str, Any]:
        """The method entry of one trial."""
        if parameters.get("method") == "dense":
            return {"method": "dense"}
        fixed = self.entry.method.model_dump(exclude_unset=True, exclude={"models", "devices"})
        return entry_of(fixed, parameters, self.entry.search, self.quant)


def load(file: SweepFile, name: str) -> Study:
    """The study of that name. Raises InputError for what cannot be searched as it is written."""
    if name not in file.studies:
        raise InputError(f"{file.source}: no study {show(name)}{nearest(name, file.studies)}")
    entry, where = file.studies[name], f"{file.source}: studies.{name}"
    reported = measured(_base(select(file, entry.sweep), entry, name), entry, where)
    tuning = reported.model_copy(update=_tuned(reported, entry, where))
    quant = _searched_quant(reported, entry, where)
    if quant:  # losses are held against the weights as they are
        as_it_is = {"quant": (QuantEntry(method=("none",)),)}
        tuning, reported = (one.model_copy(update=as_it_is) for one in (tuning, reported))
    settings = expand(tuning.model_copy(update={"methods": (MethodEntry(method=("dense",)),)}))
    space = _by_layer(dict(entry.search), settings.points, where)
    study = Study(name, where, entry, tuning, reported, space, settings.points, quant)
    _check(study)
    return study


def _searched_quant(sweep: Sweep, entry: StudyEntry, where: str) -> dict[str, Any]:
    """The quantisation that a searched name or searched bits are put over; empty if neither is."""
    if not any(key in entry.search for key in QUANT):
        return {}
    given = entry.method.quant or sweep.quant
    if len(given) != 1:
        raise InputError(f"{where}: one quant is expected beside a searched one")
    return given[0].model_dump(exclude_unset=True)


def _by_layer(space: dict[str, Space], settings: Iterable[Point], where: str) -> dict[str, Space]:
    """The search with a logit for each layer in place of `layers`."""
    if LAYERS not in space:
        return space
    counts = {p.model: (p.geometry or model_sizes.geometry(p.model)).layers for p in settings}
    if len(set(counts.values())) > 1:
        counted = ", ".join(f"{model} has {count}" for model, count in counts.items())
        raise InputError(f"{where}.search.layers: models must have equally many layers: {counted}")
    span = space.pop(LAYERS)
    return space | dict.fromkeys(layer_names(next(iter(counts.values()))), span)


def _base(sweep: Sweep, entry: StudyEntry, name: str) -> Sweep:
    """The sweep with the study's name, devices and policy, and nothing of its methods."""
    policies = sweep.policies if len(sweep.policies) == 1 else ("lfu",)
    return sweep.model_copy(
        update={
            "name": name,
            "methods": (),
            "include": (),
            "exclude": (),
            "tasks": (),
            "devices": entry.devices or sweep.devices,
            "policies": policies,
        }
    )


def _tuned(sweep: Sweep, entry: StudyEntry, where: str) -> dict[str, Any]:
    """What the trials' sweep has in place of the reported one's."""
    windows = {"windows": entry.windows, "shard_windows": entry.shard_windows}
    changed = {key: value for key, value in windows.items() if value is not None}
    return {**changed, "text": _tuning_text(sweep, entry, where)}


def _tuning_text(sweep: Sweep, entry: StudyEntry, where: str) -> str:
    """The text to tune on: neither what is reported nor what is calibrated on."""
    validation = f"{sweep.text}-validation"
    text = entry.text or (validation if validation in TUNING_TEXTS else None)
    if text is None:
        raise InputError(
            f"{where}.text: say which text to tune on, one that the sweep does not report"
            f" (allowed: {', '.join(TUNING_TEXTS)}, or a file)"
        )
    if text_files.fingerprint(text) == text_files.fingerprint(sweep.text):
        raise InputError(f"{where}.text: {text} is the text that is reported; tune on another")
    return text


def _check(study: Study) -> None:
    """Raise InputError for a study whose every trial, or whose sense, would fail."""
    entry, space, where = study.entry, study.space, study.place
    groups = [key for key in GROUPS if key in space]
    if len(groups) == 1:
        raise InputError(f"{where}.search: 'input' and 'intermediate' are searched together")
    if groups and ("density" in space or "allocation" in space):
        raise InputError(f"{where}.search: 'input' and 'intermediate' make density and allocation")
    if groups and bounds(space["input"])[1] >= 1:
        raise InputError(f"{where}.search.input: a share below 1 is expected")
    fixed = study.entry.method
    if not (groups or "density" in space or len(fixed.density) == 1):
        raise InputError(f"{where}: 'density' is neither searched nor fixed in 'method'")
    axes = {k: v for k, v in fixed.model_dump().items() if isinstance(v, tuple | list)}
    several = [key for key, value in axes.items() if len(value) > 1]
    if several:
        raise InputError(f"{where}.method.{several[0]}: one value is expected; search the others")
    spans = [key for key, value in space.items() if isinstance(value, Span)]
    if study.sampler == "grid" and spans:
        text = "sampler grid needs {from, to, step} or a list of names"
        raise InputError(f"{where}.search.{spans[0]}: {text}")
    if entry.fit and not groups:
        raise InputError(f"{where}.fit: an allocation is fitted to 'input' and 'intermediate'")
    _check_policies(study)
    _check_names(study)
    for setting in study.settings:
        for parameters in study.complete_first():
            study.point(setting, parameters)


def _check_policies(study: Study) -> None:
    """γ below 1 needs an online policy."""
    searched = study.space.get("policy")
    names = searched.values if isinstance(searched, Choices) else study.entry.method.policies
    offline = [name for name in names if name not in cache_aware_policies()]
    if "gamma" in study.space and offline:
        online = " or ".join(sorted(CACHE_AWARE))
        raise InputError(
            f"{study.place}: gamma is searched, which needs policy {online}, not {offline[0]}"
        )


def _check_names(study: Study) -> None:
    """Each searched method, selector and quantisation exists; files of shares are of the models."""
    for key in ("method", "selector", "quant"):
        for name in getattr(study.space.get(key), "values", ()):
            try:
                MethodEntry.model_validate({"method": "dip", key: name})
            except ValidationError as error:
                text = error.errors()[0]["msg"]
                raise InputError(f"{study.place}.search.{key}: {text}") from None
    given = [str(value) for value in getattr(study.space.get("shares"), "values", ())]
    for setting in study.settings:
        allocations.check({"shares": given}, setting.model, f"{study.place}.search.shares")


def known_good(space: Mapping[str, Space]) -> list[dict[str, Any]]:
    """A safe point, with the highest density and γ, and the paper's: γ 0.2, its allocation; and
    where shares by sensitivity are searched, these too."""
    paper: dict[str, Any] = {"gamma": 0.2, "allocation": "paper", "policy": "lfu", "method": "dip"}
    safe = {key: _safe(value, key) for key, value in space.items()}
    known = [safe, {k: _nearest(value, paper.get(k, safe[k])) for k, value in space.items()}]
    shares = space.get("shares")
    for given in shares.values if isinstance(shares, Choices) else ():
        if given == GROUP_SENSITIVITY or str(given).endswith(".json"):
            informed = paper | _found_with(given)
            known.append({k: _nearest(v, informed.get(k, safe[k])) for k, v in space.items()})
    return [point for i, point in enumerate(known) if point not in known[:i]]


def _found_with(given: str) -> dict[str, Any]:
    """Shares by sensitivity, and what a file of them says that they were measured with."""
    content = curve_files.content_of(given) if given.endswith(".json") else {}
    content = {**content, **content.get("how", {})}
    names = ("method", "selector", "gamma", "policy")
    said = {name: content[name] for name in names if name in content}
    if said.get("selector") == "cache-aware":  # top-k with γ below 1
        said["selector"] = "topk"
    return {"shares": given, "method": "dip-shares", **said}


def _safe(space: Space, key: str = "") -> Any:
    """The highest number, or the first name; 0 for the logit of a layer, units by themselves, the
    least weight of reads, and half of a cache."""
    if key in (CHUNK, LAM):
        return bounds(space)[0]
    if is_layer(key) or key == CACHE_SHARES:
        return _nearest(space, 0.0 if is_layer(key) else 0.5)
    if isinstance(space, Choices) and not _numbers(space):
        return space.values[0]
    return bounds(space)[1]


def _allocations(space: Mapping[str, Space]) -> list[dict[str, Any]]:
    """The published split of each target density, where `input` and `intermediate` are searched."""
    if not all(key in space for key in GROUPS):
        return []
    others = {key: _safe(value, key) for key, value in space.items() if key not in GROUPS}
    listed = []
    for density in TARGETS:
        d_in = round(allocation.PAPER.input_density(density), DIGITS)
        split_densities = {"input": d_in, "intermediate": round(3 * density - 2 * d_in, DIGITS)}
        if all(_holds(space[key], value) for key, value in split_densities.items()):
            listed.append({**others, **split_densities})
    return listed


def _holds(space: Space, value: float) -> bool:
    low, high = bounds(space)
    return low <= value <= high


def _numbers(space: Space) -> bool:
    return isinstance(space, Span) or not isinstance(space.values[0], str)


def _nearest(space: Space, value: Any) -> Any:
    if isinstance(space, Choices) and not _numbers(space):
        return value if value in space.values else space.values[0]
    low, high = bounds(space)
    return min(max(value, low), high)
