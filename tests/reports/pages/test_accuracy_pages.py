"""Accuracy beside perplexity on the pages: losses are named, and every name is escaped."""

from __future__ import annotations

from reports.findings.budgets import parse_all
from reports.pages import accuracy, html, markdown
from reports.reading.run import Run, assemble
from reports.results import Row
from tests.reports.tasked import row, rows_of


def run_of(*rows: Row) -> Run:
    return assemble("a", rows_of(*rows), parse_all(()), {}, {}, tasks=("mmlu",))


def test_a_hidden_loss_is_named_with_its_size():
    text = markdown.render(run_of(row("1", "dip", 0.5, 10.2, 0.50)))
    assert "perplexity rises by 2.0%, but accuracy falls on mmlu by 0.100" in text
    assert "500 ± 0.010 (−0.100)" in text
    assert accuracy.NONE_HIDDEN in markdown.render(run_of(row("1", "dip", 0.5, 12.0, 0.50)))


def test_both_reports_have_it_and_escape_every_name():
    run = run_of(row("1", "dip", 0.5, 10.2, 0.5, model="<b>&|", device="phone"))
    text, page = markdown.render(run), html.render(run)
    assert "## Accuracy beside perplexity" in text
    assert '<section id="accuracy"' in page
    assert "<b>&|" not in page
    assert "<b>" not in text.split("## Accuracy beside perplexity")[1].split("## All points")[0]


def test_without_tasks_there_is_no_section():
    run = assemble("a", rows_of(), parse_all(()), {}, {})
    assert accuracy.html_section(run) is None
    assert list(accuracy.markdown_section(run)) == []
    assert '<section id="accuracy"' not in html.render(run)
