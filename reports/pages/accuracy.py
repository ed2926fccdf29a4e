"""How accuracy beside perplexity is written: a table, sentences about losses, and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings.accuracy import SMALL_LOSS, SURE, Score, Scored, scored
from reports.numbers import ABSENT, signed
from reports.pages.markup import bullets, table
from reports.pages.markup import markdown as md
from reports.reading.run import Run


def flags(configurations: Sequence[Scored]) -> list[str]:
    """A sentence for each configuration whose perplexity hides a loss."""
    return [
        f"{row.label} on {row.weights}: perplexity rises by {row.relative:.1%}, but accuracy falls "
        f"on {', '.join(f'{s.task} by {-s.change:.3f}' for s in row.hidden)}."
        for row in configurations
        if row.hidden
    ]


def cell(score: Score) -> str:
    """0.512 ± 0.021 (-0.043)"""
    if not math.isfinite(score.value):
        return ABSENT
    error = f" ± {score.stderr:.3f}" if math.isfinite(score.stderr) else ""
    return f"{score.value:.3f}{error} ({signed(score.change, 3)})"


def _scored(run: Run) -> list[Scored]:
    return scored(run.points, run.rows, run.accuracy_tasks)


def markdown_section(run: Run) -> Iterator[str]:
    """The part of `report.md`; nothing where no task was asked for."""
    configurations = _scored(run)
    if not configurations:
        return
    yield "## Accuracy beside perplexity"
    yield ABOUT
    hidden = flags(configurations)
    yield bullets(hidden) if hidden else NONE_HIDDEN
    header = [
        "Model",
        "Configuration",
        "Perplexity",
        "ΔPPL",
        "Mean Δacc",
        *map(md, run.accuracy_tasks),
    ]
    rows = [[md(c) for c in cells(entry)] for entry in configurations]
    yield table(header, rows, "--rrr" + "r" * len(run.accuracy_tasks))


ABOUT = (
    "Accuracy with its standard error and, in brackets, its change against the dense model of the "
    "same weights; perplexity beside it. Detail of every task is in accuracy.json."
)
NONE_HIDDEN = (
    f"No configuration within {SMALL_LOSS:.0%} of the dense perplexity loses accuracy on a task by "
    f"more than {SURE} standard errors."
)


def cells(entry: Scored) -> list[str]:
    """A row of the table, as text."""
    change = "" if entry.dense else signed(entry.change, 3)
    relative = "" if entry.dense else f"{signed(entry.delta_ppl)} ({entry.relative:+.1%})"
    mark = " ⚑" if entry.hidden else ""
    return [
        entry.weights,
        entry.label + mark,
        f"{entry.ppl:.3f}",
        relative,
        change,
        *(cell(s) for s in entry.scores),
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


def chart(configurations: Sequence[Scored]) -> Chart | None:
    """The dots of all sparse configurations and a few ticks; None if there is nothing to draw."""
    shown = [s for s in configurations if not s.dense and math.isfinite(s.change + s.relative)]
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
    configurations = _scored(run)
    if not configurations:
        return None
    return {
        "about": ABOUT,
        "flags": flags(configurations),
        "none_hidden": NONE_HIDDEN,
        "chart": chart(configurations),
        "width": WIDTH,
        "height": HEIGHT,
        "tasks": list(run.accuracy_tasks),
        "rows": [cells(entry) for entry in configurations],
    }
