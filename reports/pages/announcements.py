"""How announced masks are written: a table, a row for each group and a column for each distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reports.findings.announcements import Announced, announcements, distances
from reports.numbers import ABSENT
from reports.pages.markup import markdown as md
from reports.pages.markup import table
from reports.reading.run import Run

TITLE = "Masks announced ahead"
ABOUT = (
    "Each layer announces its masks for the layers that follow, so that these can be read while "
    "others compute. Precision is the share of announced units that the later layer uses, what it "
    "lacks is read in vain; recall is the share of used units that were announced, what it lacks "
    "is read on demand. One figure stands where the two are the same."
)


def markdown_section(run: Run) -> Iterator[str]:
    """The part of `report.md`; nothing where no mask was announced."""
    entries = announcements(run.points, run.rows)
    if not entries:
        return
    yield f"## {TITLE}"
    yield ABOUT
    far = distances(entries)
    rows = [[md(cell) for cell in cells(entry, far)] for entry in entries]
    yield table(header(far), rows, "---" + "r" * len(far))


def html_section(run: Run) -> dict[str, Any] | None:
    """What `announced.html.j2` shows; None where no mask was announced."""
    entries = announcements(run.points, run.rows)
    if not entries:
        return None
    far = distances(entries)
    rows = [cells(entry, far) for entry in entries]
    return {"title": TITLE, "about": ABOUT, "header": header(far), "rows": rows}


def header(far: Sequence[int]) -> list[str]:
    """Names of the columns at these distances."""
    ahead = [f"{d} layer{'' if d == 1 else 's'} ahead" for d in far]
    return ["Model", "Configuration", "Group", *ahead]


def cells(entry: Announced, far: Sequence[int]) -> list[str]:
    """A row of the table, as text."""
    ratios = [_ratios(entry, distance) for distance in far]
    return [entry.weights, entry.label, entry.group, *ratios]


def _ratios(entry: Announced, distance: int) -> str:
    """`precision 0.812, recall 0.795`, or one figure."""
    if distance not in entry.by_distance:
        return ABSENT
    precision, recall = entry.by_distance[distance]
    if entry.alike:
        return f"{precision:.3f}"
    return f"precision {precision:.3f}, recall {recall:.3f}"
