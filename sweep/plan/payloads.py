"""The payloads of tasks from points: one function a kind (types: `sweep.tasks.payloads`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from methods.experts.rules import Rule, Stock
from methods.registry import create
from methods.shared import asks_trials, training_parameters
from simulator import Geometry, Storage
from sweep.plan.materials import Materials
from sweep.plan.point import Point
from sweep.plan.sizes import footprint_of, part_of
from sweep.plan.task_code import (
    CLASSES,
    READS,
    code_of_bundles,
    code_of_coactive,
    code_of_method,
    code_of_policy,
    code_of_priced,
    code_of_rounding,
    code_of_rule,
    code_of_transform,
    code_of_trials,
    code_of_uses,
)
from sweep.plan.weight_steps import Step, rounding
from sweep.read_prices import GroupReads, Reads
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

Inputs = dict[str, str]
"""Keys of tasks by the role of their hand-over."""


class _Run(TypedDict):
    weights: str
    window_tokens: int
    dtype: str
    threads: int
    bos: NotRequired[str]
    activation: NotRequired[str]


def _run(point: Point, materials: Materials) -> _Run:
    """What every run of the model on a text depends on."""
    accuracy = point.accuracy
    run: _Run = {
        "weights": materials.weights(point.model),
        "window_tokens": accuracy.window_tokens,
        "dtype": accuracy.dtype,
        "threads": accuracy.threads,
    }
    if bos := materials.bos(point):
        run["bos"] = bos
    if point.swap:
        run["activation"] = point.swap.activation
    return run


def selector(point: Point, slots: Mapping[str, int], asked: Reads | None = None) -> SelectorPayload:
    """How the masks of a point are chosen; `slots` are cached units by group, `asked` is how their
    misses become reads."""
    payload: SelectorPayload = {"name": point.selector}
    if point.selector == "cache-aware":
        payload = {
            "name": "cache-aware",
            "gamma": point.gamma,
            "policy": point.policy,
            "slots": dict(slots),
            "scope": point.cache_scope,
        }
        if point.traits.routes:
            del payload["gamma"]
        if point.device.read_cost():  # its reads are counted from its masks
            payload["traced"] = True
    elif point.selector == "read-aware":
        assert asked is not None  # the grid leaves out devices whose reads cost nothing
        payload = {
            "name": "read-aware",
            "policy": point.policy,
            "slots": dict(slots),
            "scope": point.cache_scope,
            "reads": asked,
        }
        if point.lam is not None:
            payload["lam"] = point.lam * _cost_second(point)
    elif point.selector == "resident-threshold":
        payload = {
            "name": "resident-threshold",
            "policy": point.policy,
            "slots": dict(slots),
            "scope": point.cache_scope,
        }
    if point.chunk > 1:
        payload["chunk"] = point.chunk
    return payload


def _cost_second(point: Point) -> float:
    """Seconds of the device in a second of the cost that reads are planned with, which by latency
    and bandwidth takes a nanosecond for a byte."""
    cost = point.device.read_cost()
    return 1 / cost.gbps if cost is not None and cost.affine else 1.0


def evaluate(
    point: Point, materials: Materials, selector: SelectorPayload, inputs: Inputs
) -> Evaluate:
    """An evaluation of no windows yet. Without a selector and without a training the model runs as
    a dense one."""
    own = bool(selector) or "trained" in inputs
    method = point.method if own else "dense"
    payload: Evaluate = {
        **_run(point, materials),
        "text": materials.text(point, "text"),
        "method": method,
        "density": point.density if own else 1.0,
        "parameters": dict(point.parameters) if own else {},
        "selector": selector,
        "inputs": inputs,
        "code": code_of_method("evaluate", method, selector.get("policy", "")),
        "windows": [],
    }
    if "lam" in selector:
        payload["priced"] = True
        payload["code"] = code_of_priced(method, selector.get("policy", ""))
    if selector and point.accuracy.dense_tokens:
        payload["dense_tokens"] = point.accuracy.dense_tokens
    if point.traits.routes and own:
        return _routed(payload, rule_of(point).plain())
    return payload


def rule_of(point: Point) -> Rule:
    """The routing rule of a point that has one."""
    rule = create(point.method, point.density, **dict(point.parameters))
    assert isinstance(rule, Rule)
    return rule


def _routed(payload: Evaluate, rule: Rule) -> Evaluate:
    """The evaluation of a rule; of one that chooses as the router does, that of `stock`."""
    payload["routed"] = True
    payload["method"], payload["parameters"] = rule.name, rule.parameters()
    payload["code"] = code_of_rule(rule, payload["selector"].get("policy", ""))
    return payload


def score(evaluation: Evaluate, shard: Mapping[str, Any], generation: str) -> Score:
    """A shard of a downstream task for the model, method and selector of an evaluation.

    Of a cache-aware selector, each request is a session of its own. `generation` is the fingerprint
    of the model's generation settings, which count where it writes.
    """
    chosen = evaluation["selector"]
    payload: Score = {
        "weights": evaluation["weights"],
        "dtype": evaluation["dtype"],
        "threads": evaluation["threads"],
        "method": evaluation["method"],
        "density": evaluation["density"],
        "parameters": evaluation["parameters"],
        "selector": {**chosen, "scope": "window"} if "scope" in chosen else chosen,
        "inputs": evaluation["inputs"],
        "code": code_of_method("score", evaluation["method"], chosen.get("policy", "")),
        "task": shard["task"],
        "documents": shard["documents"],
        "prompts": shard["prompts"],
        "settings": shard["settings"],
        "task_code": shard["task_code"],
        "max_length": shard["max_length"],
        "lm_eval": shard["lm_eval"],
    }
    if "activation" in evaluation:
        payload["activation"] = evaluation["activation"]
    if generation and shard["output"] == "generate_until":
        payload["generation"] = generation
    return payload


def transform(point: Point, materials: Materials, step: Step, inputs: Inputs) -> Transform:
    """One change of weights; text, windows and seed enter where they can change it."""
    accuracy = point.accuracy
    payload: Transform = {
        "weights": materials.weights(point.model),
        "dtype": accuracy.dtype,
        "threads": accuracy.threads,
        "recipe": step.recipe,
        "windows": [],
        "inputs": inputs,
        "code": code_of_transform(point.method, step.modules),
    }
    if point.swap and not step.learns:
        payload["activation"] = point.swap.activation
    if step.learns:
        payload["dtype"] = "float32"  # steps of Adam are smaller than what bfloat16 tells apart
    if step.random:
        payload["seed"] = accuracy.seed
    if step.windows:
        payload["text"] = materials.text(point, "calibration")
        payload["window_tokens"] = accuracy.window_tokens
        if bos := materials.bos(point):
            payload["bos"] = bos
        payload["windows"] = list(range(materials.training_windows(point, step.windows)))
    return payload


def calibrate(point: Point, materials: Materials, inputs: Inputs) -> Calibrate:
    """The same for every density of a method."""
    name, counting = point.traits.calibrated_as, point.traits.calibration_parameters
    return {
        **_run(point, materials),
        "text": materials.text(point, "calibration"),
        "windows": list(range(materials.calibration_windows(point))),
        "method": name,
        "parameters": {key: value for key, value in point.parameters if key in counting},
        "inputs": inputs,
        "code": code_of_method("calibrate", name),
    }


def count_uses(
    point: Point, materials: Materials, selector: SelectorPayload, inputs: Inputs
) -> CountUses:
    """Uses of units on the calibration text, by the masks of the point."""
    payload: CountUses = {
        **_run(point, materials),
        "text": materials.text(point, "calibration"),
        "windows": list(range(materials.calibration_windows(point))),
        "method": point.method,
        "density": point.density,
        "parameters": dict(point.parameters),
        "selector": selector,
        "inputs": inputs,
        "code": code_of_uses(point.method),
    }
    if point.traits.routes:
        stock = Stock(experts=rule_of(point).experts)
        payload["method"], payload["parameters"] = stock.name, stock.parameters()
        payload["density"], payload["code"] = 1.0, code_of_uses(stock.name)
        payload["routed"] = True
    return payload


def coactive(payload: CountUses) -> CountUses:
    """The same masks, for the order in which units used together lie side by side."""
    return {**payload, "coactive": True, "code": code_of_coactive(payload["method"])}


def train(point: Point, materials: Materials, selector: SelectorPayload, inputs: Inputs) -> Train:
    """A training for the point's density, or once for all densities."""
    method = create(point.method, point.density, **dict(point.parameters))
    usable = method.training_windows(point.accuracy.window_tokens)
    payload: Train = {
        **_run(point, materials),
        "text": materials.text(point, "calibration"),
        "windows": materials.training_windows(point, usable),
        "method": point.method,
        "density": point.density if method.trained == "each density" else 1.0,
        "parameters": training_parameters(method),
        "selector": selector,
        "inputs": inputs,
        "seed": point.accuracy.seed,
        "code": code_of_method("train", point.method),
    }
    if asks_trials(method):
        payload["study"] = "tpe"
        payload["code"] = code_of_trials(point.method)
    if step := rounding(point):
        windows = materials.training_windows(point, step.windows)
        seed = point.accuracy.seed if step.random else 0
        payload["recipe"] = {**step.recipe, "windows": windows, "seed": seed}
        payload["code"] = code_of_rounding(point.method, step.modules)
    return payload


def simulate(
    point: Point, slots: Mapping[str, int], inputs: Inputs, asked: Reads | None = None
) -> Simulate:
    """The point's policy on the trace of an evaluation, and where they are asked for, reads."""
    counting = (CLASSES if point.at_depths else READS) if asked is not None else ""
    payload: Simulate = {
        "policy": point.policy,
        "slots": dict(slots),
        "scope": point.cache_scope,
        "inputs": inputs,
        "code": code_of_policy(point.policy, counting, pool=point.pool),
    }
    if point.at_depths:
        payload["classes"] = True
    if point.preload_layers:
        payload["preload_layers"] = point.preload_layers
        payload["code"] = code_of_bundles()
    if point.pool:
        payload["pool"] = True
    if asked is not None:
        payload["reads"] = asked
    return payload


def reads(point: Point, geometry: Geometry, storage: Storage) -> Reads | None:
    """How misses of the point become reads; None where a read costs nothing beside its bytes.

    Of a device with latency and bandwidth, their product alone enters.
    """
    cost = point.device.read_cost()
    if cost is None:
        return None
    groups: dict[str, GroupReads] = {}
    parts = part_of(point, geometry)
    for name, group in footprint_of(point, geometry, storage).groups.items():
        groups[name] = {"unit_bytes": group.unit_bytes * parts.get(name, 1.0)}
        if cost.affine:
            groups[name]["bridge_bytes"] = cost.latency_us * cost.gbps * 1e3
        else:
            groups[name]["table"] = [list(row) for row in cost.rows]
    return {"groups": groups, "align_bytes": point.device.align_bytes}
