"""From points to the fewest tasks that answer them, each under the key of its content.

γ, device and policy vanish from the accuracy task of a selector that does not read the cache; for
one that does, the number of slots and the policy enter, never the device. No bandwidth enters any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from methods.registry import create
from simulator import allocate
from sweep import plugins
from sweep.downstream.shards import place, shard_label, shards
from sweep.errors import InputError
from sweep.keys import digest
from sweep.plan.materials import Materials
from sweep.plan.point import Point, Quant
from sweep.plan.sizes import footprint_of
from sweep.plan.task_code import code_of_method, code_of_policy, code_of_transform
from sweep.plan.weight_steps import Step, steps
from sweep.tasks.task import KINDS, Task

Scores = tuple[tuple[str, tuple[str, ...]], ...]
"""Of each downstream task by name, the keys of its shards."""

_THRESHOLDS = ("layer-threshold", "global-threshold")
_AS_IT_IS = Quant()


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """A point and the keys of the tasks that answer it, a shard each."""

    point: Point
    evaluate: tuple[str, ...]
    dense: tuple[str, ...]
    simulate: tuple[str, ...]
    """Empty where no group is pruned and where the selector counts its hits itself."""
    full: tuple[str, ...] = ()
    """The dense model with its weights as they were."""
    prepare: tuple[str, ...] = ()
    """What these evaluations work with: calibration, changed weights, training."""
    weights: str = ""
    """The task that made the weights which `evaluate` runs on; empty for the model's own."""
    scores: Scores = ()
    dense_scores: Scores = ()

    @property
    def keys(self) -> tuple[str, ...]:
        scored = [key for _, keys in (*self.dense_scores, *self.scores) for key in keys]
        return tuple(dict.fromkeys((*self.measured, *scored)))

    @property
    def measured(self) -> tuple[str, ...]:
        """Keys of what perplexity and speed come from."""
        answers = (*self.full, *self.dense, *self.evaluate, *self.simulate)
        return tuple(dict.fromkeys((*self.prepare, *answers)))


@dataclass(slots=True)
class Plan:
    """Planned points and all their tasks, needed ones before those that need them."""

    points: list[PlannedPoint] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def uses_calibration(self) -> bool:
        """Whether a task reads the calibration text."""
        without = ("evaluate", "score", "simulate")
        return any(task.kind not in without for task in self.tasks.values())

    def counts(self) -> dict[str, int]:
        """Tasks by kind."""
        found = Counter(task.kind for task in self.tasks.values())
        return {kind: found.get(kind, 0) for kind in KINDS}


def plan(points: Iterable[Point], materials: Materials) -> Plan:
    """The fewest tasks for these points; equal content is planned once."""
    made = Plan()
    builder = _Builder(made, materials)
    for point in points:
        made.points.append(builder.add(point))
    made.notes = materials.notes
    return made


class _Builder:
    """Adds the tasks of one point after another; what points share is worked out once."""

    def __init__(self, made: Plan, materials: Materials) -> None:
        self.tasks = made.tasks
        self.materials = materials
        self._evaluations: dict[Any, Any] = {}
        self._simulations: dict[Any, tuple[str, ...]] = {}
        self._all_slots: dict[Any, tuple[tuple[str, int], ...]] = {}

    def add(self, point: Point) -> PlannedPoint:
        full = self._evaluate(replace(point, quant=_AS_IT_IS), dense=True)
        dense = self._evaluate(point, dense=True)
        evaluate = self._evaluate(point, dense=point.method == "dense")
        needs_trace = point.traits.groups and point.selector != "cache-aware"
        simulate = self._simulate(point, evaluate) if needs_trace else ()
        return PlannedPoint(
            point,
            evaluate,
            dense,
            simulate,
            full,
            self._prepared((*dense, *evaluate)),
            self.tasks[evaluate[0]].payload["inputs"].get("weights", ""),
            self._scores(point, dense=point.method == "dense"),
            self._scores(point, dense=True),
        )

    def _prepared(self, keys: Iterable[str]) -> tuple[str, ...]:
        """All tasks that these need, and that those need, earlier ones first."""
        found: dict[str, None] = {}
        for key in keys:
            for needed in self.tasks[key].needs:
                found.update(dict.fromkeys((*self._prepared([needed]), needed)))
        return tuple(found)

    # -- accuracy ----------------------------------------------------------------------------

    def _evaluate(self, point: Point, dense: bool) -> tuple[str, ...]:
        identity = _evaluation_identity(point, dense, self._slots(point))
        if identity not in self._evaluations:
            base, where = self._evaluation(point, dense), self._where(point, "text")
            self._evaluations[identity] = tuple(
                self._task(
                    "evaluate",
                    base | {"windows": list(shard)},
                    f"{_label(base, self._weights_label(point, base))} {_windows(shard)}",
                    where,
                )
                for shard in self.materials.shards(point)
            )
        return self._evaluations[identity]

    def _evaluation(self, point: Point, dense: bool) -> dict[str, Any]:
        """Statically pruned weights are evaluated as a dense model is."""
        pruned = not dense and point.traits.static
        weights, dense = self._weights(point, pruned), dense or pruned
        method = "dense" if dense else point.method
        return {
            **self._measured(point),
            "text": self.materials.text(point, "text"),
            "method": method,
            "density": 1.0 if dense else point.density,
            "parameters": {} if dense else dict(point.parameters),
            "selector": {} if dense else self._selector(point),
            "inputs": weights
            | ({} if dense else self._selector_inputs(point) | self._trained(point)),
            "code": code_of_method("evaluate", method),
        }

    def _scores(self, point: Point, dense: bool) -> Scores:
        """Shards of the downstream tasks; of a cache-aware selector, each request is a session."""
        tasks = self.materials.tasks()
        identity = ("scores", _evaluation_identity(point, dense, self._slots(point)))
        if tasks and identity not in self._evaluations:
            base, where = self._evaluation(point, dense), self._where(point, "text")
            base["code"] = code_of_method("score", base["method"])
            label = _label(base, self._weights_label(point, base))
            self._evaluations[identity] = tuple(
                (one.name, self._scored(shards(base, one, card), label, where | place(one)))
                for one, card in tasks
            )
        return self._evaluations[identity] if tasks else ()

    def _scored(
        self, payloads: Iterable[dict[str, Any]], label: str, where: dict[str, str]
    ) -> tuple[str, ...]:
        return tuple(
            self._task("score", payload, f"{shard_label(payload)} {label}", where)
            for payload in payloads
        )

    def _measured(self, point: Point) -> dict[str, Any]:
        """What every run of the model depends on."""
        accuracy = point.accuracy
        return {
            "weights": self.materials.weights(point.model),
            "window_tokens": accuracy.window_tokens,
            "dtype": accuracy.dtype,
            "threads": accuracy.threads,
        }

    def _selector(self, point: Point) -> dict[str, Any]:
        if point.selector != "cache-aware":
            return {"name": point.selector}
        return {
            "name": "cache-aware",
            "gamma": point.gamma,
            "policy": point.policy,
            "slots": dict(self._slots(point)),
            "scope": point.cache_scope,
        }

    def _selector_inputs(self, point: Point) -> dict[str, str]:
        if point.selector in _THRESHOLDS:
            return {"calibration": self._calibrate(point)}
        hot = point.selector == "cache-aware" and point.cache_start == "hot"
        return {"start": self._calibrate(point)} if hot else {}

    # -- changed weights ---------------------------------------------------------------------

    def _weights(self, point: Point, pruned: bool = False) -> dict[str, str]:
        """The point's quantised (and pruned) weights as the input `weights`, if there are any."""
        before: dict[str, str] = {}
        for step in steps(point, pruned):
            before = {"weights": self._transform(point, step, before)}
        return before

    def _transform(self, point: Point, step: Step, before: dict[str, str]) -> str:
        accuracy = point.accuracy
        payload: dict[str, Any] = {
            "weights": self.materials.weights(point.model),
            "dtype": accuracy.dtype,
            "threads": accuracy.threads,
            "recipe": step.recipe,
            "windows": [],
            "inputs": before,
            "code": code_of_transform(point.method, step.modules),
        }
        if step.random:
            payload["seed"] = accuracy.seed
        if step.windows:
            payload["text"] = self.materials.text(point, "calibration")
            payload["window_tokens"] = accuracy.window_tokens
            payload["windows"] = list(range(self.materials.training_windows(point, step.windows)))
        after = f" after {self.tasks[before['weights']].label}" if before else f" {point.model}"
        where = self._where(point, "calibration")
        return self._task("transform", payload, f"{step.label}{after}", where)

    def _weights_label(self, point: Point, payload: dict[str, Any]) -> str:
        """The model, and what was done to its weights."""
        key = payload["inputs"].get("weights")
        return self.tasks[key].label if key else point.model

    # -- calibration -------------------------------------------------------------------------

    def _calibrate(self, point: Point) -> str:
        """Order of units and quantiles of scores; the same for every density of a method."""
        name, counting = point.traits.calibrated_as, point.traits.calibration_parameters
        parameters = {k: v for k, v in point.parameters if k in counting}
        payload = {
            **self._measured(point),
            "text": self.materials.text(point, "calibration"),
            "windows": list(range(self.materials.calibration_windows(point))),
            "method": name,
            "parameters": parameters,
            "inputs": self._weights(point) | (self._trained(point) if name == point.method else {}),
            "code": code_of_method("calibrate", name),
        }
        where = self._where(point, "calibration")
        label = f"calibrate {name} {self._weights_label(point, payload)}"
        return self._task("calibrate", payload, label, where)

    # -- training ----------------------------------------------------------------------------

    def _trained(self, point: Point) -> dict[str, str]:
        """The training of the point's method, as the input `trained` of others; if it has one."""
        if not point.traits.trained:
            return {}
        payload = self._training(point)
        where = self._where(point, "calibration")
        where["checkpoint"] = digest(["train", payload])
        density = "" if payload["density"] == 1 else f" {payload['density']:g}"
        own = shown(payload["parameters"])
        label = f"train {point.method}{density}{own} {self._weights_label(point, payload)}"
        return {"trained": self._task("train", payload, label, where)}

    def _training(self, point: Point) -> dict[str, Any]:
        """What is trained: for each density with its masks (top-k for a cache), or once."""
        method = create(point.method, point.density, **dict(point.parameters))
        each = point.traits.trained == "each density"
        threshold = each and point.selector in _THRESHOLDS
        asked = method.training_windows(point.accuracy.window_tokens)
        return {
            **self._measured(point),
            "text": self.materials.text(point, "calibration"),
            "windows": self.materials.training_windows(point, asked),
            "method": point.method,
            "density": point.density if each else 1.0,
            "parameters": dict(point.parameters),
            "selector": self._selector(point) if threshold else {"name": "topk"},
            "inputs": self._weights(point) | (self._selector_inputs(point) if threshold else {}),
            "seed": point.accuracy.seed,
            "code": code_of_method("train", point.method),
        }

    # -- simulation --------------------------------------------------------------------------

    def _simulate(self, point: Point, traces: tuple[str, ...]) -> tuple[str, ...]:
        identity = (traces, point.policy, self._slots(point), point.cache_scope, point.cache_start)
        if identity not in self._simulations:
            self._simulations[identity] = tuple(self._simulation(point, key) for key in traces)
        return self._simulations[identity]

    def _simulation(self, point: Point, trace: str) -> str:
        ordered = point.policy == "static" or point.cache_start == "hot"
        payload = {
            "policy": point.policy,
            "slots": dict(self._slots(point)),
            "scope": point.cache_scope,
            "inputs": {"trace": trace} | ({"start": self._calibrate(point)} if ordered else {}),
            "code": code_of_policy(point.policy),
        }
        label = f"{point.policy} {_slots_text(payload)} on {self.tasks[trace].label}"
        return self._task("simulate", payload, label, plugins.where(point.policy, "policies"))

    def _slots(self, point: Point) -> tuple[tuple[str, int], ...]:
        """Cached units of each group and layer; devices of equal capacity share their tasks."""
        if not point.traits.groups:
            return ()
        dram_gb = 0.0 if point.policy == "none" else point.device.dram_gb
        kv = (point.kv_bits, point.kv_tokens)
        own = (point.method, point.parameters)
        identity = (point.model, point.geometry, own, point.quant, kv, dram_gb)
        if identity not in self._all_slots:
            self._all_slots[identity] = self._allocated(point, dram_gb)
        return self._all_slots[identity]

    def _allocated(self, point: Point, dram_gb: float) -> tuple[tuple[str, int], ...]:
        geometry = self.materials.geometry(point)
        _check_layers(point, geometry.layers)
        sizes = footprint_of(point, geometry)
        if not dram_gb:
            return tuple((group, 0) for group in sizes.groups)
        return tuple(allocate(sizes, dram_gb * 1e9).slots.items())

    # -- tasks -------------------------------------------------------------------------------

    def _task(
        self,
        kind: str,
        payload: dict[str, Any],
        label: str,
        where: dict[str, str],
    ) -> str:
        key = digest([kind, payload])
        self.tasks.setdefault(key, Task(kind, key, payload, label, where))
        return key

    def _where(self, point: Point, role: str) -> dict[str, str]:
        """Where a worker finds model, text and, if it is a user's own, the method."""
        return {**self.materials.where(point, role), **plugins.where(point.method)}


def _evaluation_identity(point: Point, dense: bool, slots: tuple[tuple[str, int], ...]) -> Any:
    quant = point.quant
    changed = (quant.method, quant.bits, quant.group_size, quant.parameters)
    shared = (point.model, None if quant.method == "none" else changed, point.accuracy)
    if dense:
        return shared
    own = (*shared, point.method, point.density, point.parameters)
    if point.selector != "cache-aware":
        return (*own, point.selector)
    return (*own, point.gamma, point.policy, slots, point.cache_scope, point.cache_start)


def _label(payload: dict[str, Any], model: str) -> str:
    density = "" if payload["method"] == "dense" else f" {payload['density']:g}"
    parameters = shown(payload["parameters"])
    selector = payload["selector"]
    gamma = (
        f" γ={selector['gamma']:g} {selector['policy']} {_slots_text(selector)}"
        if "gamma" in selector
        else ""
    )
    if selector.get("name") in _THRESHOLDS:
        gamma = f" {selector['name']}"
    return f"{payload['method']}{density}{parameters}{gamma} {model}"


def _windows(shard: tuple[int, ...]) -> str:
    return f"window {shard[0]}" if len(shard) == 1 else f"window {shard[0]}-{shard[-1]}"


def shown(parameters: Mapping[str, Any]) -> str:
    """Values of parameters for a label, each after a space; densities by layer as a digest."""
    given = {k: v for k, v in parameters.items() if v != ""}
    texts = (f"by-layer-{digest(v)[:6]}" if k == "layers" else str(v) for k, v in given.items())
    return "".join(f" {text}" for text in texts)


def _check_layers(point: Point, count: int) -> None:
    """Raise InputError where densities by layer are not those of the model's layers."""
    given = len(str(dict(point.parameters).get("layers", "")).split())
    if given not in (0, count):
        raise InputError(f"layers: {given} densities for the {count} layers of {point.model}")


def _slots_text(payload: dict[str, Any]) -> str:
    return "/".join(str(n) for n in payload["slots"].values())
