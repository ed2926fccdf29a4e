"""Accuracy beside perplexity: which losses are flagged, and what is shown once."""

from __future__ import annotations

import pytest

from reports.findings.accuracy import Scored, scored
from reports.findings.points import points
from reports.results import Row
from tests.reports.tasked import row, rows_of


def found_in(*rows: Row) -> list[Scored]:
    given = rows_of(*rows)
    return scored(points(given), given, ["mmlu"])


def lost(*rows: Row) -> list[tuple[str, float, str, float]]:
    """Label, rise of perplexity, task and fall of accuracy of each hidden loss."""
    return [
        (one.label, one.relative, score.task, -score.change)
        for one in found_in(*rows)
        for score in one.hidden
    ]


def test_a_loss_that_perplexity_hides_is_flagged():
    ((label, rise, task, fall),) = lost(row("1", "dip", 0.5, 10.2, 0.50))
    assert (label, task) == ("dip · density 0.5", "mmlu")
    assert (rise, fall) == (pytest.approx(0.02), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("ppl", "acc"),
    [
        (12.0, 0.50),  # the perplexity shows it
        (10.2, 0.58),  # within two standard errors of the difference
        (10.2, 0.70),
    ],
)
def test_what_is_no_hidden_loss_is_not_flagged(ppl: float, acc: float):
    assert lost(row("1", "dip", 0.5, ppl, acc)) == []


def test_points_that_differ_in_the_device_alone_are_shown_once():
    rows = [row(str(gb), "dip", 0.5, 10.2, 0.5, dram_gb=float(gb)) for gb in (2, 3)]
    assert len(found_in(*rows)) == 2
    cached = [r | {"gamma": 0.2, "selector": "cache-aware", "policy": "lfu"} for r in rows]
    assert len(found_in(*cached)) == 3


def test_an_unknown_accuracy_is_left_open():
    found = found_in(row("1", "dip", 0.5, 10.2, 0.5, acc_mmlu=None))
    assert [one.label for one in found] == ["dense"]
