"""Accuracy beside perplexity: which losses are flagged, what is shown once, what is escaped."""

from __future__ import annotations

from typing import Any

import pytest

from reports.findings import accuracy
from reports.findings.budgets import parse_all
from reports.pages import html, markdown
from reports.reading.run import Run, assemble
from reports.results import with_facts

BASE: dict[str, Any] = {
    "sweep": "s",
    "model": "m",
    "quant": "4 bit",
    "selector": "topk",
    "gamma": 1.0,
    "allocation": "paper",
    "policy": "none",
    "device": "phone",
    "dram_gb": 2.0,
    "flash_gbps": 1.0,
    "dram_gbps": 60.0,
    "ppl_dense": 10.0,
    "tokens_per_s_dense": 1.0,
    "tokens_per_s": 2.0,
    "status": "done",
    "error": "",
    "text": "t",
    "windows": 4,
    "window_tokens": 64,
    "dtype": "float32",
    "timing": "overlap",
    "cache_start": "empty",
    "cache_scope": "window",
}


def row(
    key: str, method: str, density: float, ppl: float, acc: float, **more: Any
) -> dict[str, Any]:
    measured = {"ppl": ppl, "delta_ppl": ppl - 10.0, "acc_mmlu": acc, "acc_mmlu_stderr": 0.01}
    own = {"point_key": key, "method": method, "density": density, "mlp_density": density}
    return BASE | own | measured | {"acc_mmlu_dense": 0.60} | more


def run_of(*rows: dict[str, Any]) -> Run:
    dense = row("0", "dense", 1.0, 10.0, 0.60)
    named = with_facts([dense, *rows])
    return assemble("a", named, parse_all(()), {}, {}, tasks=("mmlu",))


def test_a_loss_that_perplexity_hides_is_flagged():
    found = accuracy.scored(run_of(row("1", "dip", 0.5, 10.2, 0.50)))
    assert [bool(one.hidden) for one in found] == [False, True]
    (flag,) = accuracy.flags(found)
    assert "dip" in flag
    assert "2.0%" in flag
    assert "mmlu by 0.100" in flag


@pytest.mark.parametrize(
    ("ppl", "acc"),
    [
        (12.0, 0.50),  # the perplexity shows it
        (10.2, 0.58),  # within two standard errors of the difference
        (10.2, 0.70),
    ],
)
def test_what_is_no_hidden_loss_is_not_flagged(ppl: float, acc: float):
    assert accuracy.flags(accuracy.scored(run_of(row("1", "dip", 0.5, ppl, acc)))) == []


def test_points_that_differ_in_the_device_alone_are_shown_once():
    rows = [row(str(gb), "dip", 0.5, 10.2, 0.5, dram_gb=float(gb)) for gb in (2, 3)]
    assert len(accuracy.scored(run_of(*rows))) == 2
    cached = [r | {"gamma": 0.2, "selector": "cache-aware", "policy": "lfu"} for r in rows]
    assert len(accuracy.scored(run_of(*cached))) == 3


def test_an_unknown_accuracy_is_left_open():
    found = accuracy.scored(run_of(row("1", "dip", 0.5, 10.2, 0.5, acc_mmlu=None)))
    assert [one.label for one in found] == ["dense"]


def test_both_reports_have_it_and_escape_every_name():
    run = run_of(row("1", "dip", 0.5, 10.2, 0.5, model="<b>&|", device="phone"))
    text, page = markdown.render(run), html.render(run)
    assert "## Accuracy beside perplexity" in text
    assert '<section id="accuracy"' in page
    assert "<b>&|" not in page
    assert "<b>" not in text.split("## Accuracy beside perplexity")[1].split("## All points")[0]


def test_without_tasks_there_is_no_section():
    dense = with_facts([row("0", "dense", 1.0, 10.0, 0.6)])
    run = assemble("a", dense, parse_all(()), {}, {})
    assert accuracy.html_section(run) is None
    assert list(accuracy.markdown_section(run)) == []
    assert '<section id="accuracy"' not in html.render(run)
