"""What the paper's Flash would have chosen, on devices that say what a read costs (SEMANTICS 9).

The paper's Flash is one bandwidth, whatever the size of a read. Where a device says more, each
point has its tokens per second by both, and a choice by the former costs what the latter says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports.findings.budgets import Budget
from reports.findings.costs import cost
from reports.findings.decisions import Decision, fastest
from reports.findings.points import Point, Setting


@dataclass(frozen=True, slots=True)
class FlashChoice:
    """What is chosen within a budget by the paper's Flash and by the device's own reads."""

    setting: Setting
    budget: Budget
    by_paper: Point
    by_device: Point

    @property
    def lost(self) -> float:
        """Share of the tokens per second that the paper's choice gives away on the device."""
        return 1 - self.by_paper.tokens_per_s / self.by_device.tokens_per_s

    @property
    def overrated(self) -> float:
        """How many times too fast the paper's Flash says its own choice is."""
        return self.by_paper.tokens_per_s_paper / self.by_paper.tokens_per_s


def has_reads(points: Sequence[Point]) -> bool:
    """Whether any point has its speed by both."""
    return any(math.isfinite(p.tokens_per_s_paper) for p in points)


def flash_choices(decisions: Sequence[Decision], points: Sequence[Point]) -> list[FlashChoice]:
    """The choices of all decisions in settings where reads have a cost."""
    usable: dict[Setting, list[Point]] = {}
    for p in points:
        if p.measured and not p.bound and math.isfinite(p.tokens_per_s_paper):
            usable.setdefault(p.setting, []).append(p)
    found: list[FlashChoice] = []
    for d in decisions:
        members = usable.get(d.setting, [])
        by_paper = _by_paper(members, d)
        by_device = fastest(members, d.limit, [cost(p, d.budget) for p in members])
        if by_paper is not None and by_device is not None:
            found.append(FlashChoice(d.setting, d.budget, by_paper, by_device))
    return found


def _by_paper(members: Sequence[Point], decision: Decision) -> Point | None:
    priced = [replace(p, tokens_per_s=p.tokens_per_s_paper) for p in members]
    costs = [cost(p, decision.budget) for p in members]
    best = fastest(priced, decision.limit, costs)
    return next((p for p in members if best and p.point_key == best.point_key), None)
