"""Mixtures of experts in the report: what a rule reads, swaps and loses, by rule and cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reports.findings.points import Point, configuration, device_label, weights_label
from reports.numbers import figure, fixed, megabytes, percent
from reports.pages.markup import markdown as md
from reports.pages.markup import table
from reports.reading.run import Run
from reports.results import Row

TITLE = "Experts: rules and caches"
ABOUT = (
    "Misses are experts that a token reads from Flash, of all layers together; swaps are used "
    "experts that the router had not chosen. Asked / slots is the mean of experts that a "
    "token uses in a layer over the slots of that layer's cache, and above 1 the share of "
    "events in which that exceeds 1: there every policy that admits what was used keeps the "
    "last token's experts alone. Read ahead is the speed where announced experts come while "
    "the layer before computes."
)
HEADER = (
    *("Model, device", "Rule and cache", "Hits", "Misses/token", "Flash/token", "Swaps", "KL"),
    *("Perplexity", "tok/s", "Read ahead", "Asked / slots", "Above 1"),
)
_ALIGN = "--" + "r" * (len(HEADER) - 2)
MOST = 100
"""Rows that are shown; the rest is in results.csv."""


@dataclass(frozen=True, slots=True)
class Routed:
    """One row of the section: the text of its cells, in the order of `HEADER`."""

    cells: tuple[str, ...]


def entries(run: Run) -> list[Routed]:
    """Every measured point that a rule routes, fastest first within its model and device."""
    pairs = zip(run.points, run.rows, strict=True)
    routed = [(p, row) for p, row in pairs if row.get("swaps") is not None and p.measured]
    places = {setting: i for i, setting in enumerate(run.settings)}
    routed.sort(key=lambda pair: (places[pair[0].setting], -pair[0].tokens_per_s))
    return [Routed(_cells(point, row)) for point, row in routed]


def markdown_section(run: Run) -> Iterator[str]:
    """The part of `report.md`; nothing where no experts are routed to."""
    routed = entries(run)
    if not routed:
        return
    yield f"## {TITLE}"
    yield ABOUT
    yield table(HEADER, [[md(cell) for cell in one.cells] for one in routed[:MOST]], _ALIGN)
    if len(routed) > MOST:
        yield f"{len(routed) - MOST} more are in results.csv."


def html_section(run: Run) -> dict[str, Any] | None:
    """What `routed.html.j2` shows; None where no experts are routed to."""
    routed = entries(run)
    if not routed:
        return None
    rows = [one.cells for one in routed[:MOST]]
    return {"title": TITLE, "about": ABOUT, "header": HEADER, "rows": rows}


def _cells(point: Point, row: Row) -> tuple[str, ...]:
    setting = point.setting
    pool = " · one pool" if row.get("pool") else ""
    return (
        f"{weights_label(setting)}, {device_label(setting)}",
        f"{configuration(point)}{pool}",
        percent(point.hit_rate),
        fixed(row.get("misses_per_token"), 1),
        megabytes(row.get("flash_bytes_per_token")),
        percent(row["swaps"]),
        fixed(row.get("kl"), 4),
        fixed(point.ppl, 2),
        figure(point.tokens_per_s),
        figure(row.get("tokens_per_s_ahead")),
        fixed(row.get("asked_per_slot"), 2),
        percent(row.get("asked_above_slots")),
    )
