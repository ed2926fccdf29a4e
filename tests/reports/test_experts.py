"""The section of mixtures of experts: a row for each routed point, and none for other runs."""

from __future__ import annotations

import json

from reports.experts import section
from reports.findings.budgets import parse_all
from reports.findings.points import configuration
from reports.pages import html, markdown
from reports.reading.run import Run, assemble
from tests.reports.tasked import row, rows_of

ROUTED = {
    "selector": "cache-aware",
    "parameters": json.dumps({"experts": 0, "inside": "none", "lam": 0.2, "protected": 2}),
    "swaps": 0.125,
    "misses_per_token": 12.25,
    "kl": 0.0123,
    "asked_per_slot": 1.5,
    "asked_above_slots": 1.0,
    "tokens_per_s_ahead": 55.5,
    "pool": True,
}


def run_of(**more: object) -> Run:
    rows = rows_of(row("1", "cache-prior", 1.0, 11.0, 0.5, **more))
    return assemble("a", rows, parse_all(()), {}, {})


def test_both_reports_have_the_row() -> None:
    run = run_of(**ROUTED, model="<b>&|")
    text, page = markdown.render(run), html.render(run)
    part = text.split(f"## {section.TITLE}")[1].split("\n## ")[0].replace("\\", "")
    line = next(line for line in part.splitlines() if "cache-prior" in line)
    for figure in ("12.2", "12.5 %", "0.0123", "11.00", "55.5", "1.50", "100.0 %", "one pool"):
        assert figure in line, figure
    assert "<b>" not in part
    shown = page.split('<section id="routed"')[1].split("</section>")[0]
    assert "55.5" in shown
    assert '<a href="#routed">' in page


def test_a_rule_is_told_by_its_bias_and_no_gamma() -> None:
    label = configuration(run_of(**ROUTED).points[1])
    assert "lam 0.2" in label
    assert "γ" not in label


def test_without_experts_there_is_no_section() -> None:
    run = run_of()
    assert section.html_section(run) is None
    assert list(section.markdown_section(run)) == []
    assert '<section id="routed"' not in html.render(run)
