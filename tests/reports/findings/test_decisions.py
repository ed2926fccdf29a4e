"""Decisions equal their definition on random tables, with ties, NaN, failed and missing rows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from reports.findings.budgets import Budget, parse_all
from tests.reports import synthetic

NUMBER = st.one_of(
    st.sampled_from([0.0, 0.1, 0.15, 0.2, 1.0, math.nan]), st.floats(-0.5, 3, allow_nan=False)
)
ROW = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["dense", "dip", "up", "glu-oracle"]),
        "selector": st.sampled_from(["topk", "cache-aware"]),
        "policy": st.sampled_from(["lfu", "lru", "none", "belady"]),
        "dram_gb": st.sampled_from([2.0, 4.0]),
        "delta_ppl": NUMBER,
        "delta_ppl_high": NUMBER,
        "tokens_per_s": st.one_of(st.integers(1, 4).map(float), NUMBER),
        "status": st.sampled_from(["done", "done", "done", "failed", "missing"]),
    }
)
DENSE_SPEED = 1.0
BUDGETS = ("0.1", "0.2", "1%", "5%")


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with an own key, and everything else equal."""
    fixed = {"model": "m", "ppl_dense": 10.0, "density": 0.5}
    fixed |= {"tokens_per_s_dense": DENSE_SPEED}
    return [{**fixed, **row, "point_key": f"{i:04d}"} for i, row in enumerate(rows)]


def series(row: dict[str, Any]) -> str:
    return row["method"] + ("-ca" if row["selector"] == "cache-aware" else "")


def shippable(row: dict[str, Any]) -> bool:
    return row["policy"] != "belady" and row["method"] != "glu-oracle"


def within(rows: list[dict[str, Any]], limit: float, cost: str) -> list[dict[str, Any]]:
    figures = ("delta_ppl", "tokens_per_s", cost)
    measured = [r for r in rows if r["status"] == "done"]
    measured = [r for r in measured if all(math.isfinite(r[name]) for name in figures)]
    return [r for r in measured if r[cost] <= limit]


def first(rows: list[dict[str, Any]], cost: str = "delta_ppl") -> str | None:
    """Key of the fastest; ties: the lower cost, then the simplest policy, plain selection before
    cache-aware, then the lower key."""
    policies = ["none", "lru", "lfu", "belady"].index

    def place(r: dict[str, Any]) -> tuple[Any, ...]:
        simplest = policies(r["policy"]), r["selector"] == "cache-aware", r["point_key"]
        return -r["tokens_per_s"], r[cost], *simplest

    return min(rows, key=place)["point_key"] if rows else None


def worth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Dense, and what is faster than it."""
    return [r for r in rows if r["method"] == "dense" or r["tokens_per_s"] > DENSE_SPEED]


def key(point: Any) -> str | None:
    return None if point is None else point.point_key


@given(st.lists(ROW, max_size=30))
def test_decisions_equal_the_definition(random_rows: list[dict[str, Any]]) -> None:
    rows = filled(random_rows)
    decisions = reports.decide(synthetic.to_table(rows), BUDGETS)
    known = {r["dram_gb"] for r in within(rows, math.inf, "delta_ppl")}
    sizes = sorted({r["dram_gb"] for r in rows}, key=lambda gb: (gb not in known, gb))
    assert [d.setting.dram_gb for d in decisions] == [s for s in sizes for _ in BUDGETS]
    for d in decisions:
        here = [r for r in rows if r["dram_gb"] == d.setting.dram_gb]
        real = [r for r in here if shippable(r)]
        assert d.limit == pytest.approx(d.budget.amount * (10.0 if d.budget.relative else 1.0))
        qualifying = within(real, d.limit, "delta_ppl")
        best = worth(qualifying)
        assert key(d.best) == first(best)
        others = [r for r in best if d.best and series(r) != d.best.series]
        assert key(d.runner_up) == first(others)
        ends = [r | {"end": r["delta_ppl" + "_high" * (r["method"] != "dense")]} for r in real]
        assert key(d.conservative) == first(worth(within(ends, d.limit, "end")), "end")
        bounds = [r for r in within(here, d.limit, "delta_ppl") if not shippable(r)]
        assert key(d.bound) == first(bounds)
        for method in d.methods:
            own = [r for r in qualifying if series(r) == method.series]
            assert key(method.best) == first(own)


@given(st.lists(ROW, max_size=30))
def test_interpolated_values_have_measured_neighbours(random_rows: list[dict[str, Any]]) -> None:
    for d in reports.decide(synthetic.to_table(filled(random_rows)), BUDGETS):
        for method in d.methods:
            found = method.interpolated
            if found is None:
                continue
            low, high = found.below, found.above
            assert low.series == high.series == method.series
            assert low.delta_ppl <= d.limit <= high.delta_ppl
            assert low.tokens_per_s <= found.tokens_per_s <= high.tokens_per_s
            assert method.best is not None
            assert method.best.tokens_per_s <= found.tokens_per_s


@given(st.lists(ROW, max_size=30))
def test_interpolated_values_are_on_the_line_of_the_definition(
    random_rows: list[dict[str, Any]],
) -> None:
    """The frontier found by comparing all pairs; the line between its two nearest points."""
    rows = filled(random_rows)
    for d in reports.decide(synthetic.to_table(rows), BUDGETS):
        here = [r for r in rows if r["dram_gb"] == d.setting.dram_gb and shippable(r)]
        for method in d.methods:
            own = within([r for r in here if series(r) == method.series], math.inf, "delta_ppl")
            pairs = {(r["delta_ppl"], r["tokens_per_s"]) for r in own}
            line = sorted(
                a for a in pairs if not any(b[0] <= a[0] and b[1] >= a[1] and b != a for b in pairs)
            )
            below = [p for p in line if p[0] <= d.limit]
            above = [p for p in line if p[0] >= d.limit]
            if not below or not above:
                assert method.interpolated is None
                continue
            (x0, y0), (x1, y1) = below[-1], above[0]
            expected = y0 if x1 == x0 else y0 + (y1 - y0) * (d.limit - x0) / (x1 - x0)
            assert method.interpolated is not None
            found = method.interpolated
            assert found.tokens_per_s == pytest.approx(expected)
            assert (found.below.delta_ppl, found.above.delta_ppl) == (x0, x1)


def table(*rows: dict[str, Any]) -> pa.Table:
    common = {"status": "done", "policy": "lfu", "selector": "topk", "delta_ppl_high": math.nan}
    return synthetic.to_table(filled([{**common, **row} for row in rows]))


def test_a_budget_that_no_point_meets_says_so() -> None:
    rows = table({"method": "dip", "delta_ppl": 0.4, "tokens_per_s": 2.0})
    (decision,) = reports.decide(rows, ["0.2"])
    assert decision.best is None
    assert decision.message == "No measured point is within +0.2 PPL."
    assert decision.interpolated is None


def test_dense_stays_when_nothing_pruned_is_faster() -> None:
    dense = {"method": "dense", "delta_ppl": 0.0, "tokens_per_s": 1.0}
    slow = {"method": "dip", "delta_ppl": 0.1, "tokens_per_s": 0.9}
    (decision,) = reports.decide(table(dense, slow), [0.2])
    assert decision.best is not None
    assert decision.best.dense
    assert decision.message == "Ship dense: nothing within +0.2 PPL is faster."
    assert decision.is_dense
    assert decision.certainty == "within"
    assert key(decision.conservative) == key(decision.best)
    assert decision.runner_up is None
    (stricter,) = reports.decide(table(dense, slow), [0.05])
    assert stricter.message == "Ship dense: no pruned configuration is within +0.05 PPL."


def test_dense_does_not_win_over_what_is_not_measured() -> None:
    """As of a run that was stopped, or of `--only dense`."""
    dense = {"method": "dense", "delta_ppl": 0.0, "tokens_per_s": 1.0}
    waits = {"method": "dip", "status": "missing"}
    (decision,) = reports.decide(table(dense, waits, {**waits, "method": "up"}), ["2%"])
    assert decision.waiting == 2
    words = "Nothing measured within +2 % is faster than dense; 2 points are missing."
    assert decision.message == words
    failed = {**waits, "status": "failed"}
    (decision,) = reports.decide(table(dense, failed, {**waits, "policy": "belady"}), ["2%"])
    assert decision.waiting == 0
    assert decision.message.startswith("Ship dense: ")


def test_what_is_as_fast_as_dense_is_not_recommended_even_if_its_loss_is_below_zero() -> None:
    dense = {"method": "dense", "delta_ppl": 0.0, "tokens_per_s": 1.0}
    equal = {"method": "dip", "delta_ppl": -0.1, "tokens_per_s": 1.0}
    (decision,) = reports.decide(table(dense, equal), [0.2])
    assert decision.best is not None
    assert decision.best.dense


def test_dense_that_is_no_row_wins_all_the_same() -> None:
    slow = {"method": "dip", "delta_ppl": 0.1, "tokens_per_s": 0.9}
    (decision,) = reports.decide(table(slow), ["2%"])
    assert decision.best is None
    assert decision.is_dense
    assert decision.message.startswith("Ship dense: nothing within +2 % is faster.")


def test_dense_is_sure_without_an_interval() -> None:
    dense = {"method": "dense", "delta_ppl": 0.0, "tokens_per_s": 1.0}
    fast = {"method": "dip", "delta_ppl": 0.1, "tokens_per_s": 2.0}
    (decision,) = reports.decide(table(dense, fast), [0.2])
    assert decision.best is not None
    assert decision.conservative is not None
    assert (decision.best.method, decision.certainty) == ("dip", "unknown")
    assert decision.conservative.dense


def test_plain_selection_is_simpler_than_cache_aware() -> None:
    alike = {"method": "dip", "delta_ppl": 0.1, "tokens_per_s": 3.0}
    rows = table({**alike, "selector": "cache-aware"}, {**alike, "selector": "topk"})
    (decision,) = reports.decide(rows, ["0.2"])
    assert decision.best is not None
    assert decision.best.selector == "topk"


def test_an_interval_is_within_beyond_or_unknown() -> None:
    row = {"method": "dip", "delta_ppl": 0.1, "tokens_per_s": 2.0}
    for high, expected in ((0.15, "within"), (0.25, "beyond"), (math.nan, "unknown")):
        (decision,) = reports.decide(table({**row, "delta_ppl_high": high}), ["0.2"])
        assert decision.certainty == expected


def test_quantisations_and_devices_are_never_mixed() -> None:
    rows = filled(
        [
            {"method": "dip", "quant": q, "device": d, "delta_ppl": 0.1, "tokens_per_s": 2.0}
            for q in ("3 bit", "4 bit")
            for d in ("a", "b")
        ]
    )
    decisions = reports.decide(synthetic.to_table([{**r, "status": "done"} for r in rows]), ["1"])
    assert len({d.setting for d in decisions}) == 4
    assert all(d.best for d in decisions)


def test_a_pandas_frame_gives_the_same_decisions() -> None:
    results = synthetic.table()
    frame = results.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    from_frame, from_table = reports.decide(frame), reports.decide(results)
    assert [key(d.best) for d in from_frame] == [key(d.best) for d in from_table]


def test_an_absent_column_is_named() -> None:
    results = synthetic.table().drop_columns(["tokens_per_s"])
    with pytest.raises(reports.ReportError, match="no column 'tokens_per_s'; nearest is"):
        reports.decide(results)


def test_budgets_are_parsed() -> None:
    assert Budget.parse("+0.2") == Budget.parse(0.2) == Budget(0.2)
    assert Budget.parse("5%") == Budget.parse("5 %") == Budget(0.05, relative=True)
    assert Budget.parse("5%").limit(20.0) == pytest.approx(1.0)
    assert [b.label for b in parse_all(["0.2", "5%", 0.2])] == ["+0.2 PPL", "+5 %"]
    assert len(parse_all(())) == 6


@pytest.mark.parametrize("given_text", ["much", "-0.1", "nan", "inf", "%", ""])
def test_a_budget_that_cannot_be_read_is_named(given_text: str) -> None:
    with pytest.raises(reports.ReportError, match="must be a perplexity increase"):
        Budget.parse(given_text)


def test_where_all_policies_are_alike_the_simplest_is_named():
    """As where no unit fits in the cache; the keys would choose another."""
    alike = {"method": "dip", "selector": "topk", "dram_gb": 2.0, "delta_ppl": 0.1}
    alike |= {"delta_ppl_high": 0.1, "tokens_per_s": 3.0, "status": "done"}
    rows = [{**alike, "policy": policy} for policy in ("lfu", "belady", "static", "lru", "none")]
    (decision,) = reports.decide(synthetic.to_table(filled(rows)), ["0.2"])
    assert decision.best is not None
    assert decision.best.policy == "none"
