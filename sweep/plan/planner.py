"""From points to the fewest tasks that answer them, each under the key of its content.

γ, device and policy vanish from the accuracy task of a selector that does not read the cache; for
one that does, the number of slots and the policy enter, never the device. No bandwidth enters any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import methods
from simulator.policies import policy_class
from sweep import plugins
from sweep.downstream.shards import place, shard_label, shards
from sweep.downstream.task import DownstreamTask
from sweep.keys import digest
from sweep.plan import payloads
from sweep.plan.labels import (
    THRESHOLD_SELECTORS,
    parameters_label,
    run_label,
    slots_label,
    windows_label,
)
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan, PlannedPoint, Scores, made_by
from sweep.plan.point import CACHED_SELECTORS, Point, Quant, evaluation_identity, is_ordered
from sweep.plan.sizes import cached_units, check_layers, check_scored, without_cache
from sweep.plan.weight_steps import Step, before_rotation, steps
from sweep.read_prices import Reads
from sweep.tasks.payloads import (
    Calibrate,
    CountUses,
    Evaluate,
    Score,
    SelectorPayload,
    Simulate,
    Train,
    Transform,
)
from sweep.tasks.task import Task

Payload = Evaluate | Score | Calibrate | CountUses | Train | Transform | Simulate

_AS_IT_IS = Quant()


def without_empty_caches(points: Iterable[Point], materials: Materials) -> list[Point]:
    """Each point, or where its caches would hold no unit what it is without a cache."""
    builder = _Builder(Plan(), materials)
    return [builder.without_empty_cache(point) for point in points]


def plan_points(points: Iterable[Point], materials: Materials) -> Plan:
    """The fewest tasks for these points; equal content is planned once."""
    plan = Plan()
    builder = _Builder(plan, materials)
    for point in points:
        plan.points.append(builder.add(point))
    materials.compare_sizes(planned.point for planned in plan.points)
    plan.notes = materials.notes
    return plan


class _Builder:
    """Adds the tasks of one point after another; what points share is worked out once."""

    def __init__(self, plan: Plan, materials: Materials) -> None:
        self.tasks = plan.tasks
        self.materials = materials
        self._evaluations: dict[Any, Any] = {}
        self._simulations: dict[Any, tuple[str, ...]] = {}
        self._all_slots: dict[Any, tuple[tuple[str, int], ...]] = {}

    def add(self, point: Point) -> PlannedPoint:
        """The point with its tasks; one whose caches hold no unit has those of no cache."""
        return replace(self._added(self.without_empty_cache(point)), point=point)

    def without_empty_cache(self, point: Point) -> Point:
        """The point itself, or where its caches hold no unit that without a cache."""
        cached = not point.traits.groups or any(units for _, units in self._slots(point))
        return point if cached else without_cache(point)

    def _added(self, point: Point) -> PlannedPoint:
        self.materials.geometry(point)  # refuses a model whose sizes are not those of the formulas
        self.materials.storage(point)  # and weights that are not those of a code
        full = self._evaluate(replace(point, quant=_AS_IT_IS, swap=None), dense=True)
        dense = self._evaluate(point, dense=True)
        evaluate = self._evaluate(point, dense=point.traits.dense)
        needs_trace = point.traits.groups and not point.counts_hits
        simulate = self._simulate(point, evaluate) if needs_trace else ()
        return PlannedPoint(
            point,
            evaluate,
            dense,
            simulate,
            full,
            self._prepared((*dense, *evaluate)),
            made_by(point, self.tasks[evaluate[0]].payload["inputs"]),
            self._scores(point, dense=point.traits.dense),
            self._scores(point, dense=True),
        )

    def _prepared(self, keys: Iterable[str]) -> tuple[str, ...]:
        """All tasks that these need, and that those need, earlier ones first."""
        prepared: dict[str, None] = {}
        for key in keys:
            for needed in self.tasks[key].needs:
                prepared.update(dict.fromkeys((*self._prepared([needed]), needed)))
        return tuple(prepared)

    # -- accuracy ----------------------------------------------------------------------------

    def _evaluate(self, point: Point, dense: bool) -> tuple[str, ...]:
        identity = evaluation_identity(point, dense, self._slots(point))
        if identity not in self._evaluations:
            evaluation, where = self._evaluation(point, dense), self._where(point, "text")
            if point.accuracy.distances and not dense and point.lam is None:
                evaluation = self._with_distances(point, evaluation)
            where |= self._policy_place(evaluation)
            label = run_label(evaluation, self._weights_label(point, evaluation["inputs"]))
            self._evaluations[identity] = tuple(
                self._task(
                    "evaluate",
                    {**evaluation, "windows": list(shard)},
                    f"{label} {windows_label(shard)}",
                    where,
                )
                for shard in self.materials.shards(point)
            )
        return self._evaluations[identity]

    def _evaluation(self, point: Point, dense: bool) -> Evaluate:
        """Statically pruned weights are evaluated as a dense model is, those of a training too."""
        pruned = not dense and point.traits.static
        weights = self._weights(point if dense else before_rotation(point), pruned)
        if pruned:
            weights |= self._trained(point)
        if dense or pruned:
            return payloads.evaluate(point, self.materials, {}, weights)
        inputs = weights | self._selector_inputs(point) | self._trained(point)
        return payloads.evaluate(point, self.materials, self._selector(point), inputs)

    def _with_distances(self, point: Point, evaluation: Evaluate) -> Evaluate:
        """Held against the dense run of the same quantisation."""
        reference = self._evaluation(point, dense=True)
        weights = reference["inputs"].get("weights", "")
        evaluation["distances"] = {"dense": digest(reference), "weights": weights}
        if weights and weights not in evaluation["inputs"].values():
            evaluation["inputs"] = evaluation["inputs"] | {"dense_weights": weights}
        return evaluation

    def _scores(self, point: Point, dense: bool) -> Scores:
        """Shards of the downstream tasks."""
        tasks = self.materials.tasks()
        identity = ("scores", evaluation_identity(point, dense, self._slots(point)))
        if tasks and identity not in self._evaluations:
            check_scored(point, dense)
            evaluation, where = self._evaluation(point, dense), self._where(point, "text")
            where |= self._policy_place(evaluation)
            label = run_label(evaluation, self._weights_label(point, evaluation["inputs"]))
            generation = self.materials.generation(point.model)
            self._evaluations[identity] = tuple(
                (entry.name, self._scored(evaluation, entry, card, label, where, generation))
                for entry, card in tasks
            )
        return self._evaluations[identity] if tasks else ()

    def _scored(
        self,
        evaluation: Evaluate,
        entry: DownstreamTask,
        card: Mapping[str, Any],
        label: str,
        where: dict[str, str],
        generation: str,
    ) -> tuple[str, ...]:
        return tuple(
            self._task(
                "score",
                payloads.score(evaluation, shard, generation),
                f"{shard_label(shard)} {label}",
                where | place(entry),
            )
            for shard in shards(entry, card)
        )

    def _selector(self, point: Point) -> SelectorPayload:
        return payloads.selector(point, dict(self._slots(point)), self._reads(point))

    def _selector_inputs(self, point: Point) -> dict[str, str]:
        if point.selector == "cache-aware":
            return {"start": self._order(point)} if is_ordered(point) else {}
        inputs = {"calibration": self._calibrate(point)} if point.has_thresholds else {}
        if point.selector in CACHED_SELECTORS:
            inputs |= self._start(point)
        return inputs | (self._laid(point) if point.selector == "read-aware" else {})

    # -- changed weights ---------------------------------------------------------------------

    def _weights(self, point: Point, pruned: bool = False) -> dict[str, str]:
        """The point's quantised (and pruned) weights as the input `weights`, if there are any."""
        before: dict[str, str] = {}
        for step in steps(point, pruned):
            before = {"weights": self._transform(point, step, before)}
        return before

    def _transform(self, point: Point, step: Step, before: dict[str, str]) -> str:
        payload = payloads.transform(point, self.materials, step, before)
        model = self.materials.title(point.model, point.swap)
        after = f" after {self.tasks[before['weights']].label}" if before else f" {model}"
        where = self._where(point, "calibration")
        return self._task("transform", payload, f"{step.label}{after}", where)

    def _weights_label(self, point: Point, inputs: Mapping[str, str]) -> str:
        """The model, and what was done to its weights."""
        key = inputs.get("weights")
        return self.tasks[key].label if key else self.materials.title(point.model, point.swap)

    # -- calibration -------------------------------------------------------------------------

    def _calibrate(self, point: Point) -> str:
        """Order of units and quantiles of scores; the same for every density of a method, however
        it is split."""
        name, counting = point.traits.calibrated_as, point.traits.calibration_parameters
        inputs = self._weights(before_rotation(point))
        if name == point.method:
            parameters = tuple(item for item in point.parameters if item[0] in counting)
            inputs |= self._trained(replace(point, parameters=parameters))
        payload = payloads.calibrate(point, self.materials, inputs)
        where = self._where(point, "calibration")
        label = f"calibrate {name} {self._weights_label(point, inputs)}"
        return self._task("calibrate", payload, label, where)

    def _count_uses(self, point: Point, coactive: bool = False) -> str:
        """Order of units by how many tokens use them, or which of them together: of one method,
        density and selector, or of top-k where that looks at the cache."""
        if point.selector in CACHED_SELECTORS:
            point = replace(point, selector="topk", gamma=1.0, lam=None)
        weights = self._weights(before_rotation(point))
        inputs = weights | self._selector_inputs(point) | self._trained(point)
        payload = payloads.count_uses(point, self.materials, self._selector(point), inputs)
        payload = payloads.coactive(payload) if coactive else payload
        masked = f"{point.method} {point.density:g}{parameters_label(payload['parameters'])}"
        label = f"count uses {'together ' * coactive}{masked} {self._weights_label(point, inputs)}"
        return self._task("calibrate", payload, label, self._where(point, "calibration"))

    # -- training ----------------------------------------------------------------------------

    def _trained(self, point: Point) -> dict[str, str]:
        """The training of the point's method, as the input `trained` of others; if it has one."""
        method = methods.create(point.method, point.density, **dict(point.parameters))
        if not method.trained:
            return {}
        payload = self._training(point)
        where = self._where(point, "calibration")
        where["checkpoint"] = digest(["train", payload])
        density = "" if payload["density"] == 1 else f" {payload['density']:g}"
        run = f"{point.method}{density}{parameters_label(payload['parameters'])}"
        label = f"train {run} {self._weights_label(point, payload['inputs'])}"
        return {"trained": self._task("train", payload, label, where)}

    def _training(self, point: Point) -> Train:
        """What is trained: for each density with its masks (top-k for a cache), or once."""
        each = point.traits.trained == "each density"
        weights = self._weights(before_rotation(point))
        if not each or point.selector not in THRESHOLD_SELECTORS:
            return payloads.train(point, self.materials, {"name": "topk"}, weights)
        inputs = weights | self._selector_inputs(point)
        return payloads.train(point, self.materials, self._selector(point), inputs)

    # -- simulation --------------------------------------------------------------------------

    def _simulate(self, point: Point, traces: tuple[str, ...]) -> tuple[str, ...]:
        cache = (point.policy, self._slots(point), point.cache_scope, point.cache_start)
        asked = self._reads(point)
        lying = (asked and digest(asked), point.layout, point.preload_layers, point.at_depths)
        identity = (traces, cache, point.pool, *lying)
        if identity not in self._simulations:
            self._simulations[identity] = tuple(self._simulation(point, key) for key in traces)
        return self._simulations[identity]

    def _simulation(self, point: Point, trace: str) -> str:
        inputs, asked = {"trace": trace} | self._start(point), self._reads(point)
        inputs |= self._laid(point) if asked is not None else {}
        payload = payloads.simulate(point, dict(self._slots(point)), inputs, asked)
        slots = slots_label(payload["slots"])
        reading = f" read {point.layout}" if asked is not None else ""
        label = f"{point.policy} {slots}{reading} on {self.tasks[trace].label}"
        return self._task("simulate", payload, label, plugins.where(point.policy, "policies"))

    def _start(self, point: Point) -> dict[str, str]:
        """The order of units that a cache begins with, as the input `start`, if it is not cold."""
        if not is_ordered(point):
            return {}
        by_use = policy_class(point.policy).start_by == "use"
        return {"start": self._count_uses(point) if by_use else self._order(point)}

    def _laid(self, point: Point) -> dict[str, str]:
        """The order of units in Flash, as the input `order`, where it is not the model's own."""
        if point.layout == "natural":
            return {}
        return {"order": self._count_uses(point, coactive=point.layout == "coactive")}

    def _order(self, point: Point) -> str:
        """The order of units that a cache begins with; chunks have one by their uses alone."""
        by_use = point.chunk > 1 or point.traits.routes
        return self._count_uses(point) if by_use else self._calibrate(point)

    def _reads(self, point: Point) -> Reads | None:
        """How misses become reads, on a device where a read has a cost."""
        return payloads.reads(point, self.materials.geometry(point), self.materials.storage(point))

    def _slots(self, point: Point) -> tuple[tuple[str, int], ...]:
        """Cached units of each group and layer; devices of equal capacity share their tasks."""
        if not point.traits.groups:
            return ()
        dram_gb = point.device.dram_gb if policy_class(point.policy).caches else 0.0
        kv = (point.kv_bits, point.kv_tokens)
        method = (point.method, point.parameters)
        shared = (dram_gb, point.chunk, point.pool, point.cache_shares)
        identity = (point.model, point.geometry, method, point.quant, kv, *shared)
        if identity not in self._all_slots:
            self._all_slots[identity] = self._allocated(point)
        return self._all_slots[identity]

    def _allocated(self, point: Point) -> tuple[tuple[str, int], ...]:
        geometry = self.materials.geometry(point)
        check_layers(point, geometry.layers)
        storage = self.materials.storage(point)
        return tuple(cached_units(point, geometry, storage).items())

    # -- tasks -------------------------------------------------------------------------------

    def _task(self, kind: str, payload: Payload, label: str, where: dict[str, str]) -> str:
        content = cast("dict[str, Any]", payload)
        key = digest([kind, content])
        self.tasks.setdefault(key, Task(kind, key, content, label, where))
        return key

    def _policy_place(self, evaluation: Evaluate) -> dict[str, str]:
        """What a worker needs for the policy of a cache-aware selector, where it is a user's."""
        return plugins.where(evaluation["selector"].get("policy", ""), "policies", "policy_")

    def _where(self, point: Point, role: str) -> dict[str, str]:
        """Where a worker finds model, text and, if it is a user's own, the method."""
        return {**self.materials.where(point, role), **plugins.where(point.method)}
