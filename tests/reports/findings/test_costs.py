"""Budgets of KL: decisions by another figure, and what is said where it was not measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from reports.findings.budgets import KL, Budget, kinds, of_perplexity, parse_all
from reports.findings.certainty import outlook, sentences, windows_needed
from reports.findings.costs import (
    UNMEASURED,
    cost,
    cost_text,
    flips_text,
    interval,
    kl_text,
    upper_end,
)
from reports.findings.decisions import Decision
from reports.findings.points import Point
from reports.findings.policies import headline
from tests.reports import synthetic
from tests.reports.findings.test_decisions import ROW, filled, key

SHAPE = synthetic.Shape(densities=(0.5, 0.7, 0.9), dram_gb=(0.05,), flash_gbps=(1.0,))


def measured(rows: list[dict[str, Any]], share: float = 0.02) -> list[dict[str, Any]]:
    """Rows with a KL of this share of their ΔPPL, and flips of ten times that."""
    names = {"kl": "delta_ppl", "kl_low": "delta_ppl_low", "kl_high": "delta_ppl_high"}
    for row in rows:
        row |= {name: row[other] * share for name, other in names.items()}
        row |= {n.replace("kl", "flip_rate"): row[n] * 10 for n in names}
    return rows


def made(change: Any = measured) -> list[dict[str, Any]]:
    return change(synthetic.table(SHAPE, flaws=False).to_pylist())


def decided(rows: list[dict[str, Any]], *budgets: str) -> list[Decision]:
    return reports.decide(synthetic.to_table(rows), budgets)


@given(st.lists(ROW, max_size=30), st.sampled_from([0.1, 0.2, 1.0]))
def test_a_kl_in_the_place_of_delta_ppl_decides_alike(rows: list[Any], amount: float) -> None:
    """Dense is the one whose cost is known: 0 in both."""
    nothing = {"delta_ppl": 0.0, "delta_ppl_high": 0.0}
    table = [row | nothing if row["method"] == "dense" else row for row in filled(rows)]
    twins = [row | {"kl": row["delta_ppl"], "kl_high": row["delta_ppl_high"]} for row in table]
    for by_ppl, by_kl in zip(
        decided(table, str(amount)), decided(twins, f"kl={amount}"), strict=True
    ):
        assert by_kl.limit == by_ppl.limit == amount
        for name in ("dense", "best", "runner_up", "conservative", "bound"):
            assert key(getattr(by_kl, name)) == key(getattr(by_ppl, name)), name
        assert by_kl.certainty == by_ppl.certainty
        reached = [
            [
                (m.series, key(m.best), m.interpolated and m.interpolated.tokens_per_s)
                for m in d.methods
            ]
            for d in (by_ppl, by_kl)
        ]
        assert reached[0] == reached[1]


def test_kl_decides_by_its_own_figures() -> None:
    rows = made()
    cheap = next(r for r in rows if r["method"] == "up" and r["density"] == 0.5)
    cheap |= {"kl": 0.0001, "kl_high": 0.0002, "tokens_per_s": 1e4}
    (by_ppl, by_kl) = decided(rows, "0.01", "kl=0.001")
    assert by_kl.best is not None
    assert by_kl.best.point_key == cheap["point_key"]
    assert by_kl.conservative == by_kl.best
    assert by_kl.certainty == "within"
    assert key(by_ppl.best) != cheap["point_key"]
    unsure = decided([r | {"kl_high": 9.0} for r in rows], "kl=0.001")[0]
    assert unsure.certainty == "beyond"
    assert unsure.conservative is not None
    assert unsure.conservative.dense
    assert sentences(unsure)[0].startswith("Not sure: the 95 % interval reaches 9.00, beyond")


@pytest.mark.parametrize("kept", ["nothing", "dense alone"])
def test_without_distances_nothing_is_decided(kept: str) -> None:
    """`dense alone`: distances of the dense model to itself are no measurement."""
    rows = made(list)
    if kept == "dense alone":
        rows = [r | {"kl": 0.0} if r["method"] == "dense" else r for r in rows]
    by_ppl, by_kl = decided(rows, "0.2", "kl=0.02")
    assert by_kl.unmeasured
    assert by_kl.message == UNMEASURED
    assert not by_kl.is_dense
    chosen = (by_kl.best, by_kl.conservative, by_kl.runner_up, by_kl.bound)
    assert chosen == (None, None, None, None)
    assert [m.series for m in by_kl.methods] == [m.series for m in by_ppl.methods]
    assert not by_ppl.unmeasured
    assert outlook([by_kl], 10.0) == []


def test_a_run_of_dense_alone_has_nothing_to_measure() -> None:
    rows = [r for r in made(list) if r["method"] == "dense"]
    (alone,) = decided(rows, "kl=0.02")
    assert not alone.unmeasured
    assert alone.best is not None
    assert alone.best.dense


def test_points_without_kl_are_not_within_it() -> None:
    rows = made()
    fastest = max((r for r in rows if r["method"] == "dip"), key=lambda r: r["tokens_per_s"])
    fastest |= {"kl": None, "kl_high": None, "tokens_per_s": 1e6}
    (found,) = decided(rows, "kl=100")
    assert key(found.best) not in (None, fastest["point_key"])


def test_windows_needed_are_of_the_interval_of_kl() -> None:
    (found,) = decided([r | {"kl": 0.01, "kl_high": 0.03} for r in made()], "kl=0.02")
    assert found.best is not None
    point = replace(found.best, windows=8.0)
    budget = Budget(0.02, of=KL)
    needed = windows_needed(point, budget)
    assert 8 < needed < 100
    assert windows_needed(replace(point, delta_ppl=9.0, delta_ppl_high=99.0), budget) == needed
    assert windows_needed(point, Budget(0.005, of=KL)) == math.inf


def test_the_headline_is_of_perplexity_where_there_is_a_budget_of_it() -> None:
    rows = made()
    assert {d.budget.of for d in headline(decided(rows, "kl=1", "0.01", "kl=2"))} == {"ppl"}
    assert {d.budget.of for d in headline(decided(rows, "kl=1", "kl=2"))} == {"kl"}
    assert headline([]) == []


def test_figures_in_words() -> None:
    (found,) = decided(made(), "kl=0.02")
    assert found.best is not None
    point: Point = replace(
        found.best,
        kl=0.01234,
        kl_low=0.0101,
        kl_high=0.0145,
        delta_ppl=0.15,
        flip_rate=0.021,
        flip_rate_low=0.018,
        flip_rate_high=0.024,
    )
    budget = Budget.parse("kl=0.02")
    assert cost(point) == 0.15
    assert cost(point, budget) == 0.01234
    assert upper_end(point, budget) == 0.0145
    assert interval(point, budget) == "[0.0101, 0.0145]"
    assert cost_text(point, budget) == kl_text(point) == "0.0123 [0.0101, 0.0145]"
    assert flips_text(point) == "2.1 % [1.8 %, 2.4 %]"
    unknown = replace(point, kl=math.nan, kl_high=math.nan, flip_rate=math.nan)
    assert (kl_text(unknown), flips_text(unknown)) == ("–", "–")
    assert cost_text(replace(point, kl_low=math.nan), budget) == "0.0123"


def test_budgets_of_kl_are_parsed() -> None:
    assert Budget.parse("kl=0.02") == Budget.parse(" KL = 0.02 ") == Budget(0.02, of=KL)
    assert Budget.parse("kl=0.02").label == "KL ≤ 0.02 nat"
    assert Budget.parse("kl=0.02").limit(20.0) == 0.02
    both = parse_all(["kl=0.1", "0.1", "kl=0.10"])
    assert both == (Budget(0.1, of=KL), Budget(0.1))
    assert kinds(both) == ("ppl", "kl")
    assert of_perplexity(both) == (Budget(0.1),)


@pytest.mark.parametrize("text", ["kl=5%", "kl=", "kl=-1", "kl=nan", "kl", "flips=0.1", "kl=kl=1"])
def test_a_budget_of_kl_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(reports.ReportError, match=r"a KL in nats such as 'kl=0\.02'"):
        Budget.parse(text)
