"""How the reads of Flash are written: what the paper's Flash would have chosen, and what it costs.

Only runs whose devices say what a read costs have this part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from reports.findings.flash import FlashChoice, flash_choices
from reports.findings.points import Point, configuration
from reports.numbers import ABSENT, figure, percent, times
from reports.pages.escape import markdown as md
from reports.pages.markup import bullets, table
from reports.pages.summary import setting_name
from reports.reading.run import Run

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
    return [
        setting_name(choice.setting, run.told_apart),
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
    """The part of `report.md`; nothing where no device says what a read costs."""
    choices = flash_choices(run.decisions, run.points)
    if choices:
        yield "## Flash as it is"
        yield ABOUT
        yield bullets(sentences(choices))
        yield table(HEADER, [[md(cell) for cell in cells(c, run)] for c in choices], _ALIGNED)


def html_section(run: Run) -> dict[str, Any] | None:
    """What `flash.html.j2` shows; None where no device says what a read costs."""
    choices = flash_choices(run.decisions, run.points)
    if not choices:
        return None
    return {
        "about": ABOUT,
        "sentences": sentences(choices),
        "header": HEADER,
        "rows": [cells(choice, run) for choice in choices],
    }
