"""Cache policies side by side: what each reaches within a budget, all else being free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.findings.decisions import Decision, fastest
from reports.findings.points import Point, Setting, by_series, by_setting


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """The fastest point of one series in one setting within `limit`, for each policy."""

    setting: Setting
    series: str
    limit: float
    best: Mapping[str, Point | None]


def policy_names(points: Iterable[Point]) -> tuple[str, ...]:
    """The policies of pruned points, those that a device can run first."""
    ahead = {p.policy: p.policy_offline for p in points if not p.dense and p.policy}
    return tuple(sorted(ahead, key=lambda name: (ahead[name], name != "none", name)))


def offline(points: Iterable[Point]) -> tuple[str, ...]:
    """The policies that know the future, so that no device can run them."""
    return tuple(sorted({p.policy for p in points if p.policy_offline}))


def compare_policies(
    points: Sequence[Point], limits: Mapping[Setting, float], series: Sequence[str]
) -> list[PolicyRow]:
    """A row for each setting and series of `series`; measured points only."""
    names = policy_names(points)
    policy_rows: list[PolicyRow] = []
    for setting, members in by_setting(p for p in points if p.measured).items():
        groups = by_series(members)
        policy_rows += [
            PolicyRow(
                setting, name, limits[setting], _by_policy(groups[name], names, limits[setting])
            )
            for name in series
            if name in groups
        ]
    return policy_rows


def _by_policy(members: list[Point], names: Iterable[str], limit: float) -> dict[str, Point | None]:
    return {n: fastest([p for p in members if p.policy == n], limit) for n in names}


def compared_series(points: Sequence[Point]) -> tuple[str, ...]:
    """Cache-aware series and their plain twins, plain first; else every pruned series."""
    aware = sorted({p.series for p in points if p.cache_aware})
    plain = sorted({p.plain for p in points if p.cache_aware})
    return (*plain, *aware) or tuple(sorted({p.series for p in points if not p.dense}))


def headline(decisions: Sequence[Decision]) -> list[Decision]:
    """One decision a setting, for the budget at which most is sure: most choices of a pruned
    configuration, then most certain ones; of equal budgets that nearest to the middle, by
    strictness."""
    if not decisions:
        return []
    first = [d for d in decisions if d.setting == decisions[0].setting]
    budgets = [d.budget for d in sorted(first, key=lambda d: (d.limit != d.limit, d.limit))]

    def worth(index: int) -> tuple[int, int, int]:
        members = [d for d in decisions if d.budget == budgets[index]]
        sure = sum(d.certainty == "within" and not d.is_dense for d in members)
        certain = sum(d.conservative is not None and not d.conservative.dense for d in members)
        return -sure, -certain, abs(index - (len(budgets) - 1) // 2)

    chosen = budgets[min(range(len(budgets)), key=worth)]
    return [d for d in decisions if d.budget == chosen]
