"""Series of a grid: all densities of one method with its other settings, and what each reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from reports.findings.budgets import Budget
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import MethodTraits, Point
from sweep.results.facts import is_bound
from sweep.search.early_stop import Floats

Place = tuple[Any, ...]


@dataclass(slots=True)
class Evaluation:
    """What the windows so far say of a model run; series that differ in device alone share it."""

    shards: int = 0
    lost: Mapping[str, Floats] = field(default_factory=dict)
    """What a token of each window loses, by what budgets are of (`limits.lost_by_window`)."""
    failed: str = ""

    def mean(self, of: str) -> float:
        return float(self.lost[of].mean())


@dataclass(slots=True)
class Series:
    """Points of one method and all its settings but the density, by rising density."""

    points: list[PlannedPoint]
    wave: int = 0
    """Series of wave 0 go first; later ones begin where those like them ended."""
    tries: dict[Budget, set[int]] = field(default_factory=dict)

    @property
    def point(self) -> Point:
        return self.points[0].point

    @property
    def setting(self) -> Place:
        """What must be equal for two points to be compared."""
        p = self.point
        return p.variant, p.quant, p.device, p.kv_tokens, p.cache_start, p.cache_scope

    @property
    def family(self) -> Place:
        """Series like this one: of the same method, with another γ, cache or device."""
        p = self.point
        return p.variant, p.quant, p.method, p.parameters

    @property
    def densities(self) -> list[float]:
        return [planned.point.density for planned in self.points]


@dataclass(frozen=True, slots=True)
class Found:
    """What a series reaches within a budget."""

    series: Series
    budget: Budget
    planned: PlannedPoint | None
    """None if no density of the series is within the budget."""
    row: dict[str, Any]
    low: float
    """The 95 % interval of what the budget bounds, ΔPPL or KL, from the windows that were
    evaluated; NaN where that is one."""
    high: float
    whole: bool
    """Whether it is measured on all windows."""
    best: bool = False
    sure: bool = False
    """Whether the whole interval is within the budget."""
    setting: str = ""
    """Label of the setting, where that of the point would say more than the setting."""
    name: str = ""
    """What the series is called, where its method, parameters, γ and policy do not tell it."""


def dense_of(planned: PlannedPoint) -> PlannedPoint:
    """The dense model in place of a point: its weights, its device, and its dense run."""
    point = replace(
        planned.point,
        method="dense",
        density=1.0,
        parameters=(),
        selector="topk",
        gamma=1.0,
        policy="none",
        cache_start="empty",
        cache_scope="window",
        traits=MethodTraits.of("dense"),
    )
    return PlannedPoint(
        point, planned.dense_keys, planned.dense_keys, (), full_keys=planned.full_keys
    )


def evaluated_tokens(payload: dict[str, Any]) -> int:
    """Tokens that an evaluation runs the model on."""
    return len(payload["windows"]) * payload["window_tokens"]


def series_of(points: list[PlannedPoint]) -> Iterator[Series]:
    """The series that a device can run; the first of each family, and of each γ, lead."""
    members_of: dict[Point, list[PlannedPoint]] = {}
    for planned in points:
        asked = planned.point.lam is None  # at a fixed price of reads no density is asked for
        if asked and planned.point.method != "dense" and not is_bound(planned.point):
            members_of.setdefault(replace(planned.point, density=1.0), []).append(planned)
    families: set[Place] = set()
    gammas: set[Place] = set()
    ordered = sorted(members_of.values(), key=lambda members: -members[0].point.gamma)
    for members in ordered:
        members.sort(key=lambda planned: planned.point.density)
        series = Series(members)
        gamma = (*series.family, series.point.gamma)
        series.wave = 0 if series.family not in families else 1 if gamma not in gammas else 2
        families.add(series.family)
        gammas.add(gamma)
        yield series


def mates_of(points: list[PlannedPoint]) -> dict[tuple[str, ...], list[PlannedPoint]]:
    """Points that share an evaluation, by its keys."""
    mates: dict[tuple[str, ...], list[PlannedPoint]] = {}
    for planned in points:
        mates.setdefault(planned.evaluate_keys, []).append(planned)
    return mates
