"""How the reads of Flash are written: what the paper's Flash would have chosen, and what it costs.

Only runs whose devices say what a read costs have this part.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from reports.findings.flash import FlashChoice, flash_choices
from reports.findings.points import Point, configuration, device_label
from reports.numbers import ABSENT, figure, percent, times
from reports.pages.markup import bullets, table
from reports.pages.markup import markdown as md
from reports.pages.summary import setting_name
from reports.reading.run import Run
from reports.reading.stopwatch import MODELS, Replayed

ABOUT = (
    "The paper's Flash is one bandwidth, whatever the size of a read. Here each read costs what the"
    " device says. In tok/s: what the paper's Flash chooses, what it claims for that and what the"
    " device gives, and what the device's own reads choose."
)
HEADER = (
    *("Setting", "Budget", "Chosen by the paper's Flash", "Claimed", "Given"),
    *("Chosen by the reads", "Given", "Lost", "Reads/token", "Mean read", "Wasted"),
)
_ALIGNED = "---rr-rrrrr"


def sentences(choices: Sequence[FlashChoice]) -> list[str]:
    """What the paper's Flash gets wrong, in one sentence or two."""
    if not choices:
        return []
    worst = max(choices, key=lambda c: c.lost)
    others = [c for c in choices if c.by_paper.point_key != c.by_device.point_key]
    over = sorted(c.overrated for c in choices)
    says = (
        f"The paper's Flash says that its choices are {times(over[0])} to {times(over[-1])} as fast"
        " as the device's reads let them be."
    )
    if not others:
        return [says, "It chooses the same configurations all the same."]
    count = f"{len(others)} of {len(choices)} choices"
    winners = Counter(c.by_device.series for c in others).most_common(2)
    named = " and ".join(f"{series} ({times_won})" for series, times_won in winners)
    loses = (
        f"By the reads {count} are others, most often {named}; taking the paper's choice loses up"
        f" to {percent(worst.lost)} of the tokens per second."
    )
    return [says, loses]


def cells(choice: FlashChoice, run: Run) -> list[str]:
    """A row of the table, as text."""
    paper, device = choice.by_paper, choice.by_device
    same = paper.point_key == device.point_key
    named = device_label if len(run.of_weights()) == 1 else setting_name
    return [
        named(choice.setting, run.told_apart),
        choice.budget.label,
        configuration(paper),
        figure(paper.tokens_per_s_paper),
        figure(paper.tokens_per_s),
        "the same" if same else configuration(device),
        figure(device.tokens_per_s),
        ABSENT if same else percent(choice.lost),
        *_reads(device),
    ]


def _reads(point: Point) -> list[str]:
    if not point.reads_per_token > 0:
        return [ABSENT] * 3
    size = f"{figure(point.mean_read_bytes / 1024)} KiB"
    return [figure(point.reads_per_token), size, percent(point.wasted)]


def markdown_section(run: Run) -> Iterator[str]:
    """The parts of `report.md`: choices where a device says what a read costs, and a stopwatch
    where reads were done."""
    choices = flash_choices(run.decisions, run.points)
    if choices:
        yield "## Flash as it is"
        yield ABOUT
        yield bullets(sentences(choices))
        yield table(HEADER, [[md(cell) for cell in cells(c, run)] for c in choices], _ALIGNED)
    yield from _stopwatch_markdown(run)


def html_section(run: Run) -> dict[str, Any] | None:
    """What `flash.html.j2` shows; None where no device says what a read costs."""
    choices = flash_choices(run.decisions, run.points)
    if not choices:
        return None
    return {
        "about": ABOUT,
        "sentences": sentences(choices),
        "header": HEADER,
        "numeric": [place for place, side in enumerate(_ALIGNED) if side == "r"],
        "rows": [cells(choice, run) for choice in choices],
    }


# -- the stopwatch ---------------------------------------------------------------------------

STOPWATCH = (
    "The Flash time of a token in milliseconds: as three models of the storage predict it, and as"
    " the reads took it when they were done (`sweep replay`). Nothing is computed meanwhile."
)
STOPWATCH_HEADER = (
    *("Point", "Reads/token", "MB/token", "Paper's Flash", "Affine", "Curve"),
    *("Measured", "From", "To"),
)
_WIDTH, _HEIGHT, _EDGE = 420, 320, 40


def stopwatch_cells(line: Replayed) -> list[str]:
    """A row of the table of measured times, as text."""
    predicted = [figure(line.predicted[name]) for name in MODELS]
    measured = [line.reason] + [ABSENT] * 2 if line.reason else _measured(line)
    size = figure(line.bytes_per_token / 1e6)
    return [line.label, figure(line.reads_per_token), size, *predicted, *measured]


def _measured(line: Replayed) -> list[str]:
    return [figure(line.measured), figure(line.low), figure(line.high)]


PRODUCTS = (
    "The same with products: as 4-bit columns, what is read and what is cached is multiplied by a"
    " kernel of this tool, in as many threads as reads are in flight. Predicted is, phase by phase,"
    " the longer of the curve and of the products alone."
)
PRODUCTS_HEADER = ("Point", "Products alone", "Predicted", "Measured", "From", "To")


def products_cells(line: Replayed) -> list[str]:
    """A row of the table of reads with products; empty where nothing was multiplied."""
    one = line.products
    if one is None:
        return []
    figures = (one.computing, one.predicted, one.measured, one.low, one.high)
    return [line.label, *map(figure, figures)]


def _products_rows(run: Run) -> list[list[str]]:
    return [cells for line in run.stopwatch if (cells := products_cells(line))]


def _stopwatch_markdown(run: Run) -> Iterator[str]:
    if run.stopwatch:
        yield "## Stopwatch"
        yield STOPWATCH
        yield bullets([run.verdict])
        rows = [[md(cell) for cell in stopwatch_cells(line)] for line in run.stopwatch]
        yield table(STOPWATCH_HEADER, rows, "-rrrrrrrr")
        if multiplied := _products_rows(run):
            yield PRODUCTS
            yield table(PRODUCTS_HEADER, [[md(c) for c in row] for row in multiplied], "-rrrrr")


def _dots(lines: Sequence[Replayed]) -> dict[str, Any] | None:
    """Measured time to the right, predicted upwards, both on one logarithmic scale."""
    valid = [line for line in lines if not line.reason]
    times = [time for line in valid for time in (line.measured, *line.predicted.values())]
    if not times or min(times) <= 0:
        return None
    low, high = math.log(min(times) / 1.2), math.log(max(times) * 1.2)

    def place(time: float) -> float:
        return (math.log(time) - low) / (high - low)

    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "edge": _EDGE,
        "ends": [figure(math.exp(low)), figure(math.exp(high))],
        "dots": [
            {
                "x": round(_EDGE + place(line.measured) * (_WIDTH - 2 * _EDGE), 1),
                "y": round(_HEIGHT - _EDGE - place(time) * (_HEIGHT - 2 * _EDGE), 1),
                "model": name,
                "label": f"{line.label}: {name} {figure(time)} ms, "
                f"measured {figure(line.measured)}",
            }
            for line in valid
            for name, time in line.predicted.items()
        ],
    }


def stopwatch_section(run: Run) -> dict[str, Any] | None:
    """What `stopwatch.html.j2` shows; None where nothing was replayed."""
    if not run.stopwatch:
        return None
    return {
        "about": STOPWATCH,
        "verdict": run.verdict,
        "header": STOPWATCH_HEADER,
        "rows": [stopwatch_cells(line) for line in run.stopwatch],
        "chart": _dots(run.stopwatch),
        "products": {
            "about": PRODUCTS,
            "header": PRODUCTS_HEADER,
            "rows": _products_rows(run),
        },
    }
