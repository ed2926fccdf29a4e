"""What the pages say in words and small tables: headlines, policies, failures, documents."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings import certified
from reports.findings.budgets import Budget, kinds
from reports.findings.decisions import Decision, frontier_of, stay_sentence
from reports.findings.points import (
    Point,
    Setting,
    by_setting,
    configuration,
    dense_start,
    device_label,
    weights_label,
)
from reports.findings.policies import PolicyRow, headline, offline, policy_names
from reports.numbers import figure, times
from reports.read_sizes import MEANT_BYTES
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
    """What to ship, for each model: dense where nothing is faster, and who surely wins, by how
    much, at the budget of which most is sure. Of a run that became certain, what is decided."""
    if run.statement is not None:
        return certified.headlines(run.statement)
    groups = list(run.of_weights().values())
    return [
        sentence
        for settings in groups
        for of in kinds(run.budgets)
        for sentence in _headlines(
            weights_label(settings[0]),
            [d for d in run.decisions if d.setting in set(settings) and d.budget.of == of],
            len(groups) > 1,
        )
    ]


def certain_rows(run: Run) -> list[list[str]]:
    """What is certain, a row a choice under `certified.HEADER`; none where that was not asked."""
    said = run.statement
    if said is None:
        return []
    return [
        certified.row(said, d.certified, setting_name(d.setting, run.told_apart))
        for d in run.decisions
        if d.certified is not None
    ]


def measured_on(run: Run) -> str:
    """The text and how much of it, where that is the same for all settings; empty otherwise."""
    measured = {(s.text_title, s.windows, s.window_tokens, dense_start(s)) for s in run.settings}
    if len(measured) != 1 or min(next(iter(measured))[1:3]) <= 0:
        return ""
    ((text, windows, tokens, start),) = measured
    most = max((p.windows for p in run.points if p.measured), default=windows)
    span = (
        f"{windows:g}" if run.statement is None or most <= windows else f"{windows:g} to {most:g}"
    )
    of_text = f"{span} window{'' if span == '1' else 's'} of {tokens:g} tokens of {text}"
    return f"{of_text}, {start}" if start else of_text


def _headlines(name: str, decisions: Sequence[Decision], several: bool) -> list[str]:
    by_budget: dict[Budget, list[Decision]] = {}
    for d in [d for d in decisions if d.methods] or decisions:
        by_budget.setdefault(d.budget, []).append(d)
    stay = [members for members in by_budget.values() if all(d.is_dense for d in members)]
    shown = headline([d for m in by_budget.values() if m not in stay for d in m])
    first = []
    if stay:
        loosest = max(stay, key=lambda members: members[0].limit)
        where = _where(len(loosest), len(loosest))
        of = f" for {name}" if several else ""
        label = loosest[0].budget.label
        waiting = sum(d.waiting for d in loosest)
        first = [f"{stay_sentence(label, waiting, where, of)}."]
    return [*first, _headline(name, shown)] if shown else first


def _headline(name: str, shown: Sequence[Decision]) -> str:
    budget = shown[0].budget.label
    sure = [d.conservative for d in shown if d.conservative is not None]
    best = [d.best for d in shown if d.best is not None]
    if not best:
        return f"{name}: {shown[0].message or f'No measured point is within {budget}.'}"
    if not sure:
        return (
            f"{name}: within {budget}, {_winners(best, len(shown))}. None of these choices is "
            "surely within: dense, which would be, is no measured row of the run."
        )
    doubtful = [d for d in shown if d.certainty != "within" and d.best is not None]
    text = f"{name}: surely within {budget}, {_winners(sure, len(shown))}."
    if not doubtful:
        return f"{text} Every choice is sure: its whole 95 % interval is within."
    bests = [d.best for d in doubtful if d.best is not None]
    return f"{text} Not sure (±), but by the point estimate: {_winners(bests, len(shown))}."


def _winners(points: Sequence[Point], settings: int) -> str:
    """`dip-ca is fastest in 4 of 6 device settings, glu in 2: 20.5 to 161 tok/s …`"""
    (winner, wins), *others = Counter(p.series for p in points).most_common()
    also = "".join(f", {series} in {n}" for series, n in others)
    speeds = _span([p.tokens_per_s for p in points], figure)
    by_setting = " depending on the setting" if len(points) > 1 else ""
    text = f"{winner} is fastest {_where(wins, settings)}{also}: {speeds} tok/s{by_setting}"
    if all(p.dense for p in points):
        return text
    return f"{text}, {_span([p.gain for p in points], times)} dense"


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


def caveats(run: Run) -> list[str]:
    """What to read with care in this run: what it recorded, and what its figures show."""
    return [*run.notes, *read_size_caveats(run), *run.problems]


def read_size_caveats(run: Run) -> list[str]:
    """For each model, how small the reads of its choices are, where they are smaller than those
    that the bandwidth of Flash is meant for."""
    lines = []
    for settings in run.of_weights().values():
        chosen = [
            p for d in run.decisions if d.setting in settings for p in (d.best, d.conservative)
        ]
        small = [p for p in chosen if p is not None and p.mean_read_bytes < MEANT_BYTES]
        if small:
            lines.append(_small_reads(weights_label(settings[0]), small))
    return lines


def _small_reads(name: str, points: Sequence[Point]) -> str:
    sizes = _span([p.mean_read_bytes / 1024 for p in points], figure)
    counts = _span([p.reads_per_token for p in points], lambda n: f"{n:,.0f}")
    return (
        f"{name}: these choices read {sizes} KiB of Flash at a time (mean; one read for each unit "
        f"that is missed, {counts} reads a token). A Flash bandwidth is meant for reads of "
        f"{MEANT_BYTES // 1024} KiB and more; smaller ones are slower, so these speeds, and gains "
        "over dense, which is read in one piece, are upper bounds."
    )


def reads_of(point: Point) -> str:
    """`12,300 a token of 1.21 KiB`, with a remark where they are small; empty where none is."""
    if not point.mean_read_bytes > 0:
        return ""
    text = f"{point.reads_per_token:,.0f} a token of {figure(point.mean_read_bytes / 1024)} KiB"
    small = point.mean_read_bytes < MEANT_BYTES
    return f"{text}, below {MEANT_BYTES // 1024} KiB" if small else text


def frontier_points(points: Sequence[Point]) -> list[Point]:
    """The frontier of each setting that a device can run, by rising ΔPPL, one after the other."""
    return [
        point
        for members in by_setting(points).values()
        for point in frontier_of([p for p in members if p.measured and not p.bound])
    ]


def by_frontier(points: Sequence[Point]) -> list[Point]:
    """The points of `frontier_points` first; then the others, the fastest first, and last what was
    not measured."""
    line = frontier_points(points)
    keys = {p.point_key for p in line}
    others = [p for p in points if p.point_key not in keys]
    others.sort(key=lambda p: -p.tokens_per_s if p.measured else math.inf)
    return [*line, *others]


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
    home = f"{weights_label(point.setting)}, {device_label(point.setting)}"
    return f"{configuration(point)} ({home}), point {point.point_key}"


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
