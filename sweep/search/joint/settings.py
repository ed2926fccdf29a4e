"""What a joint search answers for: each model, device and cache of a sweep, with its points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reports.findings.budgets import KL, Budget
from simulator.policies import policy_class
from sweep.errors import InputError
from sweep.plan.grid import expand
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import Point, Quant
from sweep.plan.sweep_plan import SweepPlan
from sweep.results.facts import is_bound
from sweep.search.joint.axes import Axes
from sweep.search.limits import check_kl
from sweep.spec.entries import MethodEntry, QuantEntry, Sweep
from sweep.spec.spaces import LAM

Place = tuple[Any, ...]
_AS_PUBLISHED = "none"


@dataclass(frozen=True, slots=True)
class JointSetting:
    """A model, a device and a way that caches begin, with the points to choose among."""

    dense: Point
    """The dense model on the device: of the points' weights, or where these differ in what is done
    to them, of the weights as they are."""
    points: tuple[PlannedPoint, ...]
    axes: Axes
    weights_differ: bool
    cache: str = ""
    """How its caches begin and how long they live, where a sweep has several ways."""


def settings_of(planned: SweepPlan, budgets: Iterable[Budget]) -> list[JointSetting]:
    """The settings of a sweep.

    Raises InputError where there is nothing to choose among, or where a budget cannot be held.
    """
    sweep, places = planned.sweep, dict[Place, list[PlannedPoint]]()
    for point in planned.plan.points:
        if not is_bound(point.point):
            places.setdefault(_place(point.point), []).append(point)
    dense = _Dense(sweep)
    groups = [group for points in places.values() for group in _by_weights(points)]
    settings = [
        _setting(of_cache, dense, cache)
        for group in groups
        for cache, of_cache in _by_cache(group).items()
    ]
    settings = [setting for setting in settings if len(setting.points) > 1]
    where = f"{sweep.source}: sweeps.{sweep.name}"
    if not settings:
        raise InputError(f"{where}: no setting has two points beside dense that a device can run")
    for setting in settings:
        setting.axes.check(where)
        if any(budget.of == KL for budget in budgets):
            check_kl(_unmeasured(setting), where)
    return settings


def _unmeasured(setting: JointSetting) -> list[str]:
    """What of a setting's points KL is not measured for, by its name in a sweep."""
    priced = any(planned.point.lam is not None for planned in setting.points)
    return [*([LAM] if priced else []), *(["quant"] if setting.weights_differ else [])]


def waves(settings: Iterable[JointSetting]) -> list[list[JointSetting]]:
    """Settings that share all evaluations, as those that differ in bandwidths, one after another,
    so that the later ones begin with what the first have learnt."""
    order: list[list[JointSetting]] = []
    seen: dict[frozenset[str], int] = {}
    for setting in settings:
        identity = frozenset(key for planned in setting.points for key in planned.evaluate_keys)
        wave = seen.get(identity, 0)
        seen[identity] = wave + 1
        if wave == len(order):
            order.append([])
        order[wave].append(setting)
    return order


def _place(point: Point) -> Place:
    """What must be equal for two points to be compared, but for weights and cache."""
    return point.variant, point.device, point.kv_tokens


def _by_weights(points: list[PlannedPoint]) -> list[list[PlannedPoint]]:
    """The points all together where a quantisation rounds weights; where each counts bits alone,
    those of each apart: fewer bits that change no value would always win."""
    quants = dict.fromkeys(planned.point.quant for planned in points)
    if not all(map(_as_is, quants)):
        return [points]
    return [[p for p in points if p.point.quant == quant] for quant in quants]


def _by_cache(points: list[PlannedPoint]) -> dict[str, list[PlannedPoint]]:
    """The points of each way that a cache begins and how long it lives; those that cache nothing
    are in all of them."""
    ways = dict.fromkeys(_way(p.point) for p in points if _caches(p.point))
    if len(ways) < 2:
        return {"": points}
    return {
        f"cache {start}, {scope}": [
            p for p in points if not _caches(p.point) or _way(p.point) == (start, scope)
        ]
        for start, scope in ways
    }


def _way(point: Point) -> tuple[str, str]:
    return point.cache_start, point.cache_scope


def _caches(point: Point) -> bool:
    return bool(point.traits.groups) and policy_class(point.policy).caches


def _setting(points: list[PlannedPoint], dense: _Dense, cache: str) -> JointSetting:
    quants = list(dict.fromkeys(planned.point.quant for planned in points))
    place, differ = _place(points[0].point), len(quants) > 1
    held_against = dense.as_published(place) if differ else dense.listed[place, quants[0]]
    candidates = [
        planned
        for planned in points
        if planned.point.method != "dense" or planned.point.quant != held_against.quant
    ]
    axes = Axes.of(planned.point for planned in candidates)
    return JointSetting(held_against, tuple(candidates), axes, differ, cache)


class _Dense:
    """The dense model on each device of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.listed = self._points(None)
        """With each of the weights that entries ask for."""

    def as_published(self, place: Place) -> Point:
        """With the weights as they are; with the bits that the sweep counts then, if it says."""
        listed = [p for (at, quant), p in self.listed.items() if at == place and _as_is(quant)]
        if listed:
            return listed[0]
        made = self._points((QuantEntry(method=(_AS_PUBLISHED,)),))
        return next(point for (at, _), point in made.items() if at == place)

    def _points(self, quant: tuple[QuantEntry, ...] | None) -> dict[tuple[Place, Quant], Point]:
        dense = MethodEntry(method=("dense",))
        entries = tuple(
            dense.model_copy(
                update={
                    "models": entry.models,
                    "devices": entry.devices,
                    "quant": entry.quant if quant is None else quant,
                }
            )
            for entry in (*self.sweep.methods, *self.sweep.include)
        )
        changed = {"methods": entries, "include": (), "exclude": ()}
        points = expand(self.sweep.model_copy(update=changed)).points
        return {(_place(point), point.quant): point for point in points}


def _as_is(quant: Quant) -> bool:
    return quant.method == _AS_PUBLISHED
