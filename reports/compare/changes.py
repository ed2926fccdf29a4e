"""What changed from one run to another, point by point and decision by decision.

Points are the same when their keys are; what is left is matched by what it is (setting, method,
density, γ, allocation, policy) where that names one point on both sides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reports.findings.budgets import Budget
from reports.findings.certified import Certified
from reports.findings.decisions import Decision, decide_points
from reports.findings.points import Point, Setting, configuration, points, setting_label
from reports.results import Row, accuracy_tasks

METRICS = (
    *("tokens_per_s", "ppl", "delta_ppl", "hit_rate", "mlp_density", "flash_bytes_per_token"),
    *("dram_bytes_per_token", "overhead_bytes"),
)
ADDED_METRICS = ("kl", "flip_rate", "linear_density")
"""Metrics that not every run has: compared where the old one has a value."""
JUDGED = ("ppl", "delta_ppl")
"""Metrics of which windows tell how sure a change is."""

Intervals = Mapping[tuple[str, str], tuple[float, float]]
"""95 % interval of the change of a metric of `JUDGED`, by (key of the new point, metric)."""


@dataclass(frozen=True, slots=True)
class Side:
    """A run to compare: its name, its points, and their accuracies on downstream tasks by key."""

    name: str
    points: Sequence[Point]
    accuracies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    certified: Mapping[tuple[Setting, Budget], Certified] = field(
        default_factory=dict[tuple[Setting, Budget], Certified]
    )
    """What is certain of it; empty where that was not asked."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one point on both sides; NaN is what was not measured."""

    metric: str
    old: float
    new: float
    interval: tuple[float, float] | None = None

    @property
    def change(self) -> float:
        """New less old; NaN where either is missing."""
        return self.new - self.old

    @property
    def share(self) -> float:
        """Change over the old value; 0 where nothing changed, infinite from zero."""
        if self.change == 0:
            return 0.0
        return self.change / abs(self.old) if self.old else math.copysign(math.inf, self.change)

    @property
    def same(self) -> bool:
        """Whether both are missing, or equal but for the last digits of a float."""
        if math.isnan(self.old) or math.isnan(self.new):
            return math.isnan(self.old) and math.isnan(self.new)
        return self.old == self.new or math.isclose(self.old, self.new, rel_tol=1e-12)

    @property
    def lost(self) -> bool:
        """Whether there was a value and is none any more."""
        return not math.isnan(self.old) and math.isnan(self.new)

    @property
    def significant(self) -> bool | None:
        """Whether the interval of the change leaves out zero; None where there is no interval."""
        if self.interval is None or not all(map(math.isfinite, self.interval)):
            return None
        low, high = self.interval
        return low > 0 or high < 0


@dataclass(frozen=True, slots=True)
class Pair:
    """A point on both sides."""

    old: Point
    new: Point
    differences: Mapping[str, Difference]

    @property
    def changed(self) -> bool:
        return self.old.status != self.new.status or not all(
            d.same for d in self.differences.values()
        )

    @property
    def failed(self) -> bool:
        """Whether the point was done and is not any more."""
        return self.old.status == "done" and self.new.status != "done"


@dataclass(frozen=True, slots=True)
class Best:
    """The decision for one setting and budget on both sides."""

    setting: Setting
    budget: Budget
    old: Point | None
    new: Point | None
    old_certified: Certified | None = None
    new_certified: Certified | None = None

    @property
    def speed(self) -> Difference:
        """Tokens per second of the best point; NaN where no point is within the budget."""
        old, new = (math.nan if p is None else p.tokens_per_s for p in (self.old, self.new))
        return Difference("tokens_per_s", old, new)

    @property
    def decided(self) -> Best | None:
        """The certified choices of both sides, where both are decided and have one."""
        pair = self.old_certified, self.new_certified
        if pair[0] is None or pair[1] is None or not (pair[0].decided and pair[1].decided):
            return None
        if pair[0].choice is None:
            return None
        return replace(self, old=pair[0].choice, new=pair[1].choice)

    @property
    def undecided(self) -> bool:
        """Whether it was decided and is open now, or not certified any more."""
        was = self.old_certified is not None and self.old_certified.decided
        return was and not (self.new_certified is not None and self.new_certified.decided)

    @property
    def open(self) -> bool:
        """Whether it is open on the new side."""
        return self.new_certified is not None and not self.new_certified.decided

    @property
    def changed(self) -> bool:
        names = [None if p is None else configuration(p) for p in (self.old, self.new)]
        return names[0] != names[1] or not self.speed.same


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that differs between two runs."""

    old: Side
    new: Side
    pairs: Sequence[Pair]
    added: Sequence[Point]
    removed: Sequence[Point]
    best: Sequence[Best]

    @property
    def changed(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.changed]

    @property
    def failed(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.failed]


def side(name: str, rows: Sequence[Row]) -> Side:
    """A run from the rows of its results table."""
    tasks = accuracy_tasks({key for row in rows for key in row})
    accuracies = {
        str(row["point_key"]): {
            f"acc_{task}": float(value)
            for task in tasks
            if (value := row.get(f"acc_{task}")) is not None
        }
        for row in rows
    }
    return Side(name, points(rows), {key: values for key, values in accuracies.items() if values})


def compare(
    old: Side, new: Side, budgets: Sequence[Budget], intervals: Intervals | None = None
) -> Changes:
    """What changed from `old` to `new`; pairs are in the order of the new run."""
    matched = match(old.points, new.points)
    used_old = {id(a) for a, _ in matched}
    used_new = {id(b) for _, b in matched}
    names = [
        *METRICS,
        *ADDED_METRICS,
        *sorted({n for s in (old, new) for a in s.accuracies.values() for n in a}),
    ]
    return Changes(
        old=old,
        new=new,
        pairs=[_pair(a, b, old, new, names, intervals or {}) for a, b in matched],
        added=[p for p in new.points if id(p) not in used_new],
        removed=[p for p in old.points if id(p) not in used_old],
        best=_best(old, new, budgets),
    )


def match(old: Sequence[Point], new: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Points of both sides that are the same, in the order of the new ones."""
    pairs: dict[int, tuple[Point, Point]] = {}
    for name in (_key, _identity):
        left = _unique(name, (p for p in old if id(p) not in {id(a) for a, _ in pairs.values()}))
        right = _unique(name, (p for p in new if id(p) not in pairs))
        pairs |= {id(p): (left[k], p) for k, p in right.items() if k in left}
    return [pairs[id(p)] for p in new if id(p) in pairs]


def _key(point: Point) -> object:
    return point.point_key


def _identity(point: Point) -> object:
    """What a point is, whatever its key: `repr` makes an absent number equal to itself."""
    p = point
    axes = (p.series, p.told, p.allocation, p.policy, repr(p.density), repr(p.gamma))
    return p.setting, *axes, repr(p.chunk), p.layout, repr(p.preload_layers), p.cache_shares


def _unique(name: object, members: Iterable[Point]) -> dict[object, Point]:
    """Points by a name that no other of them has."""
    named = [(name(p), p) for p in members]  # type: ignore[operator]
    counts = Counter(key for key, _ in named)
    return {key: p for key, p in named if counts[key] == 1}


def _pair(
    a: Point, b: Point, old: Side, new: Side, names: Sequence[str], intervals: Intervals
) -> Pair:
    values = [
        {n: getattr(p, n) for n in (*METRICS, *ADDED_METRICS)}
        | dict(s.accuracies.get(p.point_key, {}))
        for p, s in ((a, old), (b, new))
    ]
    differences = {
        name: Difference(
            name,
            values[0].get(name, math.nan),
            values[1].get(name, math.nan),
            intervals.get((b.point_key, name)),
        )
        for name in names
        if name not in ADDED_METRICS or not math.isnan(values[0][name])
    }
    return Pair(a, b, differences)


def _best(old: Side, new: Side, budgets: Sequence[Budget]) -> list[Best]:
    """Decisions of the settings that both have points of, for each budget."""
    before = {(d.setting, d.budget): d for d in decide_points(old.points, budgets)}
    after: Sequence[Decision] = decide_points(new.points, budgets)
    return [
        Best(
            d.setting,
            d.budget,
            before[d.setting, d.budget].best,
            d.best,
            old.certified.get((d.setting, d.budget)),
            new.certified.get((d.setting, d.budget)),
        )
        for d in after
        if (d.setting, d.budget) in before
    ]


def describe(point: Point) -> str:
    """What a point is in one line: configuration, weights, device and key."""
    return f"{configuration(point)} ({setting_label(point.setting)}), point {point.point_key}"
