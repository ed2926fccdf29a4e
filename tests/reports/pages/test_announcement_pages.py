"""Announced masks on the pages: a row for each group, and no section where there are none."""

from __future__ import annotations

import json

from reports.findings.budgets import parse_all
from reports.pages import announcements, html, markdown
from reports.reading.run import Run, assemble
from tests.reports.findings.test_announcements import FIGURES
from tests.reports.tasked import row, rows_of


def run_of(**more: str) -> Run:
    rows = rows_of(row("1", "active-flow", 0.5, 11.0, 0.5, **more))
    return assemble("a", rows, parse_all(()), {}, {})


def test_both_reports_have_the_figures_by_distance() -> None:
    run = run_of(announced=json.dumps(FIGURES), model="<b>&|")
    text, page = markdown.render(run), html.render(run)
    section = text.split(f"## {announcements.TITLE}")[1].split("\n## ")[0]
    assert "| 1 layer ahead | 2 layers ahead |" in section
    rows = [line for line in section.replace("\\", "").splitlines() if "active-flow" in line]
    assert [line.split(" | ", 2)[2] for line in rows] == [
        "gate-input | 0.900 | 0.800 |",
        "intermediate | precision 0.400, recall 0.500 | – |",
    ]
    assert "<b>" not in section
    shown = page.split('<section id="announced"')[1].split("</section>")[0]
    assert '<td class="num">0.900</td>' in shown
    assert "precision 0.400, recall 0.500" in shown
    assert "<b>&|" not in page
    assert '<a href="#announced">' in page


def test_without_announcements_there_is_no_section() -> None:
    run = run_of()
    assert announcements.html_section(run) is None
    assert list(announcements.markdown_section(run)) == []
    assert '<section id="announced"' not in html.render(run)
