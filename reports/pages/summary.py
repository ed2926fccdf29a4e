"""What the pages say in words and small tables: headlines, policies, failures, documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings.decisions import Decision
from reports.findings.points import Point, Setting, configuration, device_label, weights_label
from reports.findings.policies import PolicyRow, offline, policy_names
from reports.numbers import figure, times
from reports.reading.run import Run


@dataclass(frozen=True, slots=True)
class PolicyTable:
    """The policies compared at one budget: names of the columns, and a row a setting and series.

    `offline` are those of the policies that know the future, so that no device can run them.
    """

    budget: str
    policies: tuple[str, ...]
    offline: tuple[str, ...]
    rows: Sequence[PolicyRow]


@dataclass(frozen=True, slots=True)
class Failure:
    """The first of the errors that are alike, how many points they stopped, and some of these."""

    error: str
    count: int
    examples: tuple[str, ...]


def headlines(run: Run) -> list[str]:
    """One sentence for each model: who wins at the middle budget, and by how much."""
    return [
        _headline(weights_label(settings[0]), [d for d in run.headline if d.setting in settings])
        for settings in run.of_weights().values()
    ]


def measured_on(run: Run) -> str:
    """The text and how much of it, where that is the same for all settings; empty otherwise."""
    found = {(s.text, s.windows, s.window_tokens) for s in run.settings}
    if len(found) != 1 or min(next(iter(found))[1:]) <= 0:
        return ""
    ((text, windows, tokens),) = found
    return f"{windows:g} window{'' if windows == 1 else 's'} of {tokens:g} tokens of {text}"


def _headline(name: str, decisions: Sequence[Decision]) -> str:
    best = [d.best for d in decisions if d.best is not None]
    if not best:
        return f"{name}: no measured point is within {decisions[0].budget.label}."
    (winner, wins), *others = Counter(p.series for p in best).most_common()
    where = _where(wins, len(decisions))
    budget = decisions[0].budget.label
    if winner == "dense":
        return f"{name}: within {budget}, nothing beats the dense model {where}."
    also = "".join(f", {series} in {n}" for series, n in others)
    speeds = _span([p.tokens_per_s for p in best], figure)
    gains = _span([p.gain for p in best], times)
    by_setting = " depending on the setting" if len(best) > 1 else ""
    return (
        f"{name}: within {budget}, {winner} is fastest {where}{also}: {speeds} tok/s{by_setting},"
        f" {gains} dense. {_sure(decisions)}"
    )


def _sure(decisions: Sequence[Decision]) -> str:
    """In how many settings the choice of any method is surely within the budget."""
    made = [d for d in decisions if d.best is not None]
    sure = sum(d.certainty == "within" for d in made)
    if sure == len(made):
        return "Every choice is surely within: its whole 95 % interval is."
    if not sure:
        return "None of these choices is surely within: every 95 % interval reaches beyond (±)."
    return f"{sure} of these {len(made)} choices are surely within; ± marks the others."


def _where(wins: int, settings: int) -> str:
    if settings == 1:
        return "on this device setting"
    if wins == settings == 2:
        return "in both device settings"
    return f"in {'all' if wins == settings else f'{wins} of'} {settings} device settings"


def _span(values: Sequence[float], written: Any) -> str:
    low, high = written(min(values)), written(max(values))
    return low if low == high else f"{low} to {high}"


def policy_table(run: Run) -> PolicyTable | None:
    """Policies at the middle budget; None when the run has fewer than two."""
    names = policy_names(run.points)
    if len(names) < 2 or not run.headline:
        return None
    return PolicyTable(run.headline[0].budget.label, names, offline(run.points), run.policies)


def failures(points: Iterable[Point]) -> list[Failure]:
    """Failed points gathered by error, most frequent first; errors may differ in numbers."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        if point.status == "failed":
            groups.setdefault(re.sub(r"\d+", "0", point.error), []).append(point)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_failure(members) for _, members in ordered]


def _failure(members: Sequence[Point]) -> Failure:
    error = members[0].error or "no error was recorded"
    return Failure(error, len(members), tuple(_where_failed(p) for p in members[:5]))


def _where_failed(point: Point) -> str:
    place = f"{weights_label(point.setting)}, {device_label(point.setting)}"
    return f"{configuration(point)} ({place}), point {point.point_key}"


def flatten(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted path, text) pairs; lists of plain values are joined."""
    pairs: list[tuple[str, str]] = []
    for key, value in document.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            pairs += flatten(value, f"{path}.")
        elif isinstance(value, list) and any(isinstance(v, Mapping | list) for v in value):
            pairs += flatten({str(i): v for i, v in enumerate(value)}, f"{path}.")
        else:
            pairs.append((path, _plain(value)))
    return pairs


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None or value == {} else str(value)


def setting_name(setting: Setting, told_apart: Sequence[str]) -> str:
    """Weights and device of a setting in one line."""
    return f"{weights_label(setting)} · {device_label(setting, told_apart)}"
