"""Accuracy beside perplexity: what each configuration scores on downstream tasks, against dense.

A perplexity that hardly rises may hide a loss of accuracy: such configurations are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings.points import Point, weights_label
from reports.numbers import ABSENT, signed
from reports.pages.escape import markdown as md
from reports.pages.markup import bullets, table
from reports.reading.run import Run
from reports.results import DENSE, STDERR, Row

SMALL_LOSS = 0.05
"""A perplexity of at most this share above the dense one looks harmless."""
SURE = 1.96
"""Standard errors of the difference from which a lower accuracy counts as lost."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on one task, with its standard error, and that of the dense model. NaN: unknown."""

    task: str
    value: float
    stderr: float
    dense: float
    dense_stderr: float

    @property
    def change(self) -> float:
        return self.value - self.dense

    @property
    def lost(self) -> bool:
        """Lower than the dense model's by more than chance explains.

        The two are taken as independent, which is cautious: they answer the same questions."""
        error = math.hypot(self.stderr, self.dense_stderr)
        return self.change < -SURE * error


@dataclass(frozen=True, slots=True)
class Scored:
    """A configuration with its scores; devices that differ in no mask share it."""

    weights: str
    label: str
    dense: bool
    ppl: float
    delta_ppl: float
    relative: float
    """Rise of perplexity over the dense one, as a share of it."""
    scores: tuple[Score, ...]

    @property
    def change(self) -> float:
        """Mean change of accuracy over the tasks that are known."""
        known = [s.change for s in self.scores if math.isfinite(s.change)]
        return sum(known) / len(known) if known else math.nan

    @property
    def hidden(self) -> tuple[Score, ...]:
        """Tasks whose loss the perplexity does not show."""
        if self.dense or not self.relative <= SMALL_LOSS:
            return ()
        return tuple(score for score in self.scores if score.lost)


def scored(run: Run) -> list[Scored]:
    """Every configuration with an accuracy, in the order of the table; equal ones once."""
    errors = _dense_errors(run)
    found: dict[tuple[Any, ...], Scored] = {}
    for row, point in zip(run.rows, run.points, strict=True):
        scores = tuple(_score(row, point, task, errors) for task in run.accuracy_tasks)
        if any(math.isfinite(score.value) for score in scores):
            one = _scored(point, scores)
            found.setdefault((one.weights, one.label), one)
    return list(found.values())


def _scored(point: Point, scores: tuple[Score, ...]) -> Scored:
    relative = point.delta_ppl / point.ppl_dense if point.ppl_dense else math.nan
    return Scored(
        weights=weights_label(point.setting),
        label=_label(point),
        dense=point.dense,
        ppl=point.ppl,
        delta_ppl=point.delta_ppl,
        relative=relative,
        scores=scores,
    )


def _label(point: Point) -> str:
    """What can change an accuracy: of a device only the DRAM, and that only by a cache."""
    if point.dense:
        return "dense"
    parts = [point.series, f"density {point.density:g}"]
    parts += [point.allocation] if point.allocation not in ("", "none", "paper") else []
    if point.cache_aware:
        parts += [f"γ {point.gamma:g}", point.policy, f"{point.setting.dram_gb:g} GB"]
    return " · ".join(parts)


def _score(row: Row, point: Point, task: str, errors: Mapping[tuple[Any, str], float]) -> Score:
    return Score(
        task=task,
        value=_number(row.get(f"acc_{task}")),
        stderr=_number(row.get(f"acc_{task}{STDERR}")),
        dense=_number(row.get(f"acc_{task}{DENSE}")),
        dense_stderr=errors.get((point.setting.weights, task), math.nan),
    )


def _dense_errors(run: Run) -> dict[tuple[Any, str], float]:
    """Standard errors of the dense model, where it is among the points."""
    return {
        (point.setting.weights, task): _number(row.get(f"acc_{task}{STDERR}"))
        for row, point in zip(run.rows, run.points, strict=True)
        if point.dense
        for task in run.accuracy_tasks
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def flags(found: Sequence[Scored]) -> list[str]:
    """A sentence for each configuration whose perplexity hides a loss."""
    return [
        f"{one.label} on {one.weights}: perplexity rises by {one.relative:.1%}, but accuracy falls "
        f"on {', '.join(f'{s.task} by {-s.change:.3f}' for s in one.hidden)}."
        for one in found
        if one.hidden
    ]


def cell(score: Score) -> str:
    """0.512 ± 0.021 (-0.043)"""
    if not math.isfinite(score.value):
        return ABSENT
    error = f" ± {score.stderr:.3f}" if math.isfinite(score.stderr) else ""
    return f"{score.value:.3f}{error} ({signed(score.change, 3)})"


def markdown_section(run: Run) -> Iterator[str]:
    """The part of `report.md`; nothing where no task was asked for."""
    found = scored(run)
    if not found:
        return
    yield "## Accuracy beside perplexity"
    yield ABOUT
    hidden = flags(found)
    yield bullets(hidden) if hidden else NONE_HIDDEN
    header = ["Model", "Configuration", "Perplexity", "ΔPPL", "Mean Δacc", *map(md, names(run))]
    rows = [[md(c) for c in cells(one)] for one in found]
    yield table(header, rows, "--rrr" + "r" * len(run.accuracy_tasks))


ABOUT = (
    "Accuracy with its standard error and, in brackets, its change against the dense model of the "
    "same weights; perplexity beside it. Detail of every task is in accuracy.json."
)
NONE_HIDDEN = (
    f"No configuration within {SMALL_LOSS:.0%} of the dense perplexity loses accuracy on a task by "
    f"more than {SURE} standard errors."
)


def names(run: Run) -> list[str]:
    return list(run.accuracy_tasks)


def cells(one: Scored) -> list[str]:
    """A row of the table, as text."""
    change = "" if one.dense else signed(one.change, 3)
    relative = "" if one.dense else f"{signed(one.delta_ppl)} ({one.relative:+.1%})"
    mark = " ⚑" if one.hidden else ""
    return [
        one.weights,
        one.label + mark,
        f"{one.ppl:.3f}",
        relative,
        change,
        *(cell(s) for s in one.scores),
    ]


@dataclass(frozen=True, slots=True)
class Dot:
    """A configuration in the chart of ΔPPL against Δaccuracy, in the chart's own units."""

    x: float
    y: float
    label: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """ΔPPL in percent to the right, mean change of accuracy upwards."""

    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


WIDTH, HEIGHT, LEFT, BOTTOM = 640, 300, 56, 36


def chart(found: Sequence[Scored]) -> Chart | None:
    """The dots of all sparse configurations and a few ticks; None if there is nothing to draw."""
    shown = [s for s in found if not s.dense and math.isfinite(s.change + s.relative)]
    if not shown:
        return None
    right = max(max(s.relative for s in shown), 0.01)
    low = min(*(s.change for s in shown), -0.01)
    high = max(*(s.change for s in shown), 0.0)
    left = min(*(s.relative for s in shown), 0.0)

    def x(value: float) -> float:
        return round(LEFT + (value - left) / (right - left) * (WIDTH - LEFT - 16), 1)

    def y(value: float) -> float:
        return round(12 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 20), 1)

    dots = tuple(
        Dot(x(s.relative), y(s.change), f"{s.label}, {s.weights}", bool(s.hidden)) for s in shown
    )
    across = [left + i * (right - left) / 4 for i in range(5)]
    up = [low + i * (high - low) / 4 for i in range(5)]
    return Chart(
        dots,
        tuple((x(v), f"{v:+.1%}") for v in across),
        tuple((y(v), f"{v:+.3f}") for v in up),
    )


def html_section(run: Run) -> dict[str, Any] | None:
    """What `accuracy.html.j2` shows; None where no task was asked for."""
    found = scored(run)
    if not found:
        return None
    return {
        "about": ABOUT,
        "flags": flags(found),
        "none_hidden": NONE_HIDDEN,
        "chart": chart(found),
        "width": WIDTH,
        "height": HEIGHT,
        "tasks": names(run),
        "rows": [cells(one) for one in found],
    }
