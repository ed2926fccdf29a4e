"""Budgets of joules and of accuracy: what they limit, and what is said where it is not known."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

import reports
from reports.findings.budgets import JOULE, Budget, kinds, parse_all
from reports.findings.certainty import sentences, windows_needed
from reports.findings.costs import cost, ends, upper_end
from reports.findings.decisions import Decision
from reports.findings.points import Point, points
from reports.results import schema
from tests.reports import synthetic

SHAPE = synthetic.Shape(densities=(0.5, 0.7, 0.9), dram_gb=(0.05,), flash_gbps=(1.0,))
TASK = "acc_arc_easy"


def made(**columns: Any) -> list[dict[str, Any]]:
    """Rows with further columns, each a function of the row."""
    rows = synthetic.table(SHAPE, flaws=False).to_pylist()
    return [row | {name: of(row) for name, of in columns.items()} for row in rows]


def with_energy() -> list[dict[str, Any]]:
    """A token takes as long as it takes: 2 to 3 watts."""
    return made(
        energy_j_low=lambda row: 2 / row["tokens_per_s"],
        energy_j_high=lambda row: 3 / row["tokens_per_s"],
    )


def with_accuracy() -> list[dict[str, Any]]:
    """Accuracy falls with the MLP density."""
    return made(
        acc_arc_easy=lambda row: 0.7 - 0.1 * (1 - row["mlp_density"]),
        acc_arc_easy_stderr=lambda _: 0.01,
        acc_arc_easy_dense=lambda _: 0.7,
    )


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema(["arc_easy"]))


def decided(rows: list[dict[str, Any]], *budgets: str) -> list[Decision]:
    return reports.decide(table(rows), budgets)


def points_of(rows: list[dict[str, Any]]) -> list[Point]:
    return points(reports.results.rows(table(rows)))


def test_they_are_parsed_and_named() -> None:
    assert Budget.parse("joule=0.4") == Budget.parse(" Joule = 0.40") == Budget(0.4, of=JOULE)
    assert Budget.parse("joule=0.4").label == "0.4 J a token"
    assert Budget.parse(f"{TASK}=0.02") == Budget(0.02, of=TASK)
    assert Budget.parse(f"{TASK}=0.02").label == f"-0.02 of {TASK}"
    assert kinds(parse_all(["joule=1", f"{TASK}=0", "5%", "kl=1"]))[:2] == ("ppl", "kl")


@pytest.mark.parametrize("text", ["joule=5%", "joule=-1", "joule", "acc_=0.1", "acc_x=", "watt=2"])
def test_one_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(reports.ReportError, match=r"joules a token such as 'joule=0\.4'"):
        Budget.parse(text)


def test_joules_are_an_interval_also_for_dense() -> None:
    budget, rows = Budget(0.1, of=JOULE), with_energy()
    for point in points_of(rows):
        assert cost(point, budget) == pytest.approx(2.5 / point.tokens_per_s)
        assert ends(point, budget)[1] == upper_end(point, budget)


def test_the_fastest_within_joules_is_certain_where_the_most_it_may_take_is_within() -> None:
    dense = next(p for p in points_of(with_energy()) if p.dense)
    between = 2.9 / dense.tokens_per_s
    (loose,) = decided(with_energy(), "joule=1e9")
    assert loose.certainty == "within"
    assert loose.best == loose.conservative
    (tight,) = decided(with_energy(), f"joule={2.5 / 1e9}")
    assert tight.best is None
    (edge,) = decided(with_energy(), f"joule={between}")
    assert edge.best is not None
    assert edge.conservative is None or upper_end(edge.conservative, edge.budget) <= between


def test_no_number_of_windows_tells_what_a_byte_takes() -> None:
    (decision,) = decided(with_energy(), "joule=1e9")
    assert decision.best is not None
    assert windows_needed(decision.best, decision.budget) == math.inf
    assert sentences(decision)[0].startswith("It takes ")


def test_accuracy_lost_is_held_against_its_budget() -> None:
    budget = Budget(0.02, of=TASK)
    rows = with_accuracy()
    (decision,) = decided(rows, f"{TASK}=0.02")
    best = decision.best
    assert best is not None
    assert not best.dense
    within = [p for p in points_of(rows) if not p.bound and cost(p, budget) <= 0.02]
    assert best.tokens_per_s == max(p.tokens_per_s for p in within)
    low, high = ends(best, budget)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2) * 0.01)
    assert decision.certainty == "beyond"  # a loss of 0.02 with an error of 0.014


@pytest.mark.parametrize(
    ("budget", "words"), [("joule=1", "No device of the run says"), (f"{TASK}=0.1", TASK)]
)
def test_what_was_not_measured_decides_nothing(budget: str, words: str) -> None:
    (decision,) = decided(made(), budget)
    assert decision.unmeasured
    assert words in decision.message
