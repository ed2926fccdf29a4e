"""The road of a certification: from look to look, until every cell is decided or the text ends.

It asks the store what is there and says what is wanted next, so that going on after an interruption
is to begin again: what was computed is found, and every look comes to what it came to.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reports.findings.budgets import JOULE, Budget, parse_all
from reports.findings.points import Point, Setting, by_setting, points
from reports.results import rows
from sweep.certainty.bounds import Bounds, has_hope, windows_needed
from sweep.certainty.decide import Candidate, Outcome, outcome
from sweep.certainty.evidence import Evidence, Keys, Statistic, statistic
from sweep.certainty.looks import levels
from sweep.certainty.start import Start
from sweep.plan import plan as plans
from sweep.plan.plan import PlannedPoint
from sweep.plan.sweep_plan import SweepPlan
from sweep.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Cell:
    """A device setting and a budget: who is a candidate there, and what it has come to."""

    setting: Setting
    budget: Budget
    members: tuple[Point, ...]
    candidates: tuple[Candidate, ...]
    outcome: Outcome


class Certification:
    """Which windows a sweep is to have, and what these decide."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.budgets = parse_all(start.planned.sweep.budgets)
        self.cells: list[Cell] = []
        self._seen: dict[Keys, int] = {}
        """Looks of each evaluation; 1 where it is not named."""
        self._lost: set[Keys] = set()
        """Evaluations of which a task failed after the first look: they get no further windows."""
        self._of = {p.point.key: p for p in start.planned.plan.points}
        self.evidence: Evidence | None = None

    # -- windows -----------------------------------------------------------------------------

    def part(self) -> SweepPlan:
        """The sweep with the windows that each point is to have by now."""
        planned = self.start.planned
        needed: dict[Keys, int] = {}
        for point in planned.plan.points:
            seen = self._looks_of(point.evaluate_keys)
            for keys in (point.dense_keys, point.evaluate_keys):
                needed[keys] = max(needed.get(keys, 1), seen)
        points = [
            self._first(p, self.start.looks[needed[p.evaluate_keys] - 1])
            for p in planned.plan.points
        ]
        return replace(planned, plan=plans.only(planned.plan, points))

    def _first(self, planned: PlannedPoint, windows: int) -> PlannedPoint:
        """A point with its first windows."""
        shards = math.ceil(windows / self.start.planned.sweep.shard_windows)
        return replace(plans.shards(planned, shards), full_keys=planned.full_keys[:shards])

    def _looks_of(self, keys: Keys) -> int:
        return self._seen.get(keys, 1)

    # -- deciding ----------------------------------------------------------------------------

    def advance(self, table: pa.Table, store: Store) -> bool:
        """Decide by the table of `part`; whether there is to be another one, with more windows."""
        if self._give_up_failed(table):
            return True
        listed = points(rows(table))
        if self.evidence is None:
            self.evidence = Evidence(store, self.start.looks, self._levels(listed))
        self.cells = list(self._cells(listed))
        wanted = {
            candidate.statistic.keys
            for cell in self.cells
            for candidate in cell.outcome.wanted
            if isinstance(candidate.statistic, Statistic)
        }
        for keys in wanted:
            self._seen[keys] = self._looks_of(keys) + 1
        return bool(wanted)

    def _give_up_failed(self, table: pa.Table) -> bool:
        """Take back the last look of evaluations that it failed for; whether there were any."""
        status = dict(
            zip(*(table.column(n).to_pylist() for n in ("point_key", "status")), strict=True)
        )
        failed = {
            planned.evaluate_keys
            for key, planned in self._of.items()
            if status.get(key) != "done" and self._looks_of(planned.evaluate_keys) > 1
        }
        for keys in failed:
            self._seen[keys] -= 1
        self._lost |= failed
        return bool(failed)

    def _levels(self, listed: Sequence[Point]) -> Any:
        """By what is planned alone, so that no result can change them."""
        sampled = [budget for budget in self.budgets if budget.of != JOULE]
        statistics = {
            (made.of, made.keys)
            for point in listed
            if not (point.bound or point.dense)
            for budget in sampled
            if (made := statistic(point, self._of[point.point_key], budget)).keys
        }
        cells = len(sampled) * len({point.setting for point in listed})
        return levels(self.start.alpha, len(statistics), cells, self.start.looks)

    def _cells(self, listed: Sequence[Point]) -> Iterator[Cell]:
        for setting, members in by_setting(listed).items():
            usable = [p for p in members if p.measured and not p.bound]
            usable = [p for p in usable if p.dense or not p.gain <= 1]
            usable.sort(key=_order)
            for budget in self.budgets:
                candidates = tuple(self._candidate(p, budget) for p in usable)
                came = outcome(candidates, budget.amount, self.bounds, self._may_tell, self._spare)
                yield Cell(setting, budget, tuple(members), candidates, came)

    def _candidate(self, point: Point, budget: Budget) -> Candidate:
        made = statistic(point, self._of[point.point_key], budget)
        return Candidate(point.point_key, point.tokens_per_s, made)

    def bounds(self, asked: Hashable) -> Bounds:
        """Of a statistic, from the windows that it has."""
        assert isinstance(asked, Statistic)
        assert self.evidence is not None
        return self.evidence.bounds(asked, self._looks_of(asked.keys))

    def _may_tell(self, asked: Hashable, limit: float) -> bool:
        bounds = self.bounds(asked)
        assert isinstance(asked, Statistic)
        if bounds.ended or asked.keys in self._lost:
            return False
        if not self._spare:
            return True
        levels = self.evidence.levels if self.evidence else ()
        return has_hope(bounds, self._ends(asked), limit, levels, self.start.looks)

    def _ends(self, asked: Statistic) -> Any:
        assert self.evidence is not None
        return self.evidence.ends(asked)

    @property
    def _spare(self) -> bool:
        return self.start.planned.sweep.certify.spare_windows

    # -- what came of it ---------------------------------------------------------------------

    def windows_needed(self, cell: Cell) -> float:
        """How many windows would decide an open cell, as it looks; infinite where none do."""
        aim = cell.outcome.estimated
        rivals = [c for c in cell.outcome.rivals if aim is None or c.speed >= aim.speed]
        return max((self._needed(c, cell.budget) for c in rivals), default=math.inf)

    def _needed(self, candidate: Candidate, budget: Budget) -> float:
        asked = candidate.statistic
        assert isinstance(asked, Statistic)
        if not asked.keys or asked.of.startswith("acc_") or self.evidence is None:
            return math.inf
        level = self.evidence.levels[-1]
        return windows_needed(self.bounds(asked), self._ends(asked), budget.amount, level)

    def windows(self) -> tuple[int, int]:
        """Windows of pruned evaluations, and those that all of them on all windows would take."""
        every = {
            planned.evaluate_keys
            for planned in self._of.values()
            if planned.evaluate_keys != planned.dense_keys
        }
        looks = self.start.looks
        return sum(looks[self._looks_of(keys) - 1] for keys in every), len(every) * looks[-1]

    def summary(self) -> str:
        """A sentence for the terminal."""
        decided = sum(cell.outcome.decided for cell in self.cells)
        used, every = self.windows()
        share = f", {used / every:.0%} of {every:,}" if every else ""
        return (
            f"{decided} of {len(self.cells)} choices are decided at"
            f" {100 * (1 - self.start.alpha):.6g} % for all of them together; {used:,}"
            f" windows{share}"
        )


def _order(point: Point) -> tuple[Any, ...]:
    """By falling speed; equally fast ones from the simplest on."""
    return -point.tokens_per_s, point.policy_rank, point.cache_aware, point.point_key
