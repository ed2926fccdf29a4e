"""What changed between runs, and the gate, against plain definitions on random tables."""

from __future__ import annotations

import json
import math
import operator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import reports
from reports.compare.changes import METRICS, Changes, Difference, compare, match, side
from reports.compare.gate import Verdict, judge, parse
from reports.compare.pages import WRITERS
from reports.findings.budgets import parse_all
from reports.results import with_facts
from tests.reports import synthetic

BUDGETS = parse_all(["0.2", "5%"])
NUMBER = st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.2, 1.0, math.nan]), st.floats(0, 3))
ROW = st.fixed_dictionaries(
    {
        "point_key": st.sampled_from("abcdefgh"),
        "method": st.sampled_from(["dense", "dip"]),
        "density": st.sampled_from([0.5, 0.7]),
        "dram_gb": st.sampled_from([2.0, 4.0]),
        "delta_ppl": NUMBER,
        "tokens_per_s": NUMBER,
        "ppl": NUMBER,
        "status": st.sampled_from(["done", "done", "failed"]),
    }
)
TABLE = st.lists(ROW, max_size=8, unique_by=lambda row: row["point_key"])
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    common = {"model": "m", "ppl_dense": 10.0, "device": "d", "gamma": 1.0, "policy": "lfu"}
    return with_facts({**common, **row} for row in rows)


def changes(old: list[dict[str, Any]], new: list[dict[str, Any]], **more: Any) -> Changes:
    return compare(side("old", filled(old)), side("new", filled(new)), BUDGETS, **more)


def known(value: Any) -> float:
    return math.nan if value is None else float(value)


# -- what changed ----------------------------------------------------------------------------


@settings(max_examples=40)
@given(TABLE, TABLE)
def test_points_are_matched_once_and_none_is_forgotten(old: Any, new: Any) -> None:
    found = changes(old, new)
    assert len(found.pairs) + len(found.added) == len(new)
    assert len(found.pairs) + len(found.removed) == len(old)
    lefts = [p.old.point_key for p in found.pairs]
    rights = [p.new.point_key for p in found.pairs]
    assert len(set(lefts)) == len(lefts)
    assert len(set(rights)) == len(rights)
    by_key = {row["point_key"] for row in old} & {row["point_key"] for row in new}
    assert by_key <= set(rights)
    for pair in found.pairs:
        same = pair.old.point_key == pair.new.point_key
        identity = [(p.setting, p.series, p.density) for p in (pair.old, pair.new)]
        assert same or identity[0] == identity[1]


@settings(max_examples=40)
@given(TABLE, TABLE)
def test_differences_are_new_less_old(old: Any, new: Any) -> None:
    found = changes(old, new)
    before = {row["point_key"]: row for row in old}
    after = {row["point_key"]: row for row in new}
    for pair in found.pairs:
        a, b = before[pair.old.point_key], after[pair.new.point_key]
        for name in ("ppl", "delta_ppl", "tokens_per_s"):
            d, x, y = pair.differences[name], known(a[name]), known(b[name])
            assert repr(d.change) == repr(y - x)
            assert d.lost == (not math.isnan(x) and math.isnan(y))
        same = a["status"] == b["status"] and all(
            repr(known(a[n])) == repr(known(b[n])) for n in ("ppl", "delta_ppl", "tokens_per_s")
        )
        assert pair.changed == (not same)


@settings(max_examples=40)
@given(TABLE)
def test_a_run_has_not_changed_against_itself(rows: Any) -> None:
    found = changes(rows, rows)
    assert (found.changed, found.added, found.removed) == ([], [], [])
    assert not any(b.changed for b in found.best)


@settings(max_examples=40)
@given(TABLE, TABLE, st.sampled_from([0.2, 0.5]))
def test_the_best_within_a_budget_is_that_of_the_definition(
    old: Any, new: Any, limit: float
) -> None:
    budgets = parse_all([limit])
    found = compare(side("a", filled(old)), side("b", filled(new)), budgets)

    def best(rows: list[dict[str, Any]], dram: float) -> float:
        inside = [
            known(r["tokens_per_s"])
            for r in rows
            if r["dram_gb"] == dram
            and r["status"] == "done"
            and known(r["delta_ppl"]) <= limit
            and not math.isnan(known(r["tokens_per_s"]))
        ]
        return max(inside, default=math.nan)

    shared = {r["dram_gb"] for r in old} & {r["dram_gb"] for r in new}
    assert {b.setting.dram_gb for b in found.best} == shared
    for b in found.best:
        ours = (b.speed.old, b.speed.new)
        assert repr(ours) == repr((best(old, b.setting.dram_gb), best(new, b.setting.dram_gb)))


def test_what_has_another_key_is_matched_by_what_it_is() -> None:
    row = {"point_key": "a", "method": "dip", "density": 0.5, "dram_gb": 2.0, "status": "done"}
    twin = {**row, "point_key": "b"}
    first, second = side("o", filled([row])), side("n", filled([twin]))
    ((a, b),) = match(first.points, second.points)
    assert (a.point_key, b.point_key) == ("a", "b")
    twice = side("n", filled([twin, {**row, "point_key": "c"}]))  # which of the two is not known
    assert match(first.points, twice.points) == []


def test_accuracies_are_compared() -> None:
    row = {"point_key": "a", "method": "dip", "status": "done", "acc_piqa": 0.7}
    found = changes([row], [{**row, "acc_piqa": 0.6}])
    assert found.pairs[0].differences["acc_piqa"].change == pytest.approx(-0.1)
    assert judge(parse("acc_piqa < -5%"), found).hits
    assert not judge(parse("acc_piqa < -20%"), found).hits


# -- the gate --------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    TABLE,
    TABLE,
    st.sampled_from(["tokens_per_s", "ppl", "delta_ppl"]),
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from([-10.0, -0.5, 0.0, 0.1, 20.0]),
    st.booleans(),
)
def test_a_gate_catches_what_its_definition_says(
    old: Any, new: Any, metric: str, sign: str, limit: float, percent: bool
) -> None:
    found = changes(old, new)
    before = {row["point_key"]: known(row[metric]) for row in old}
    after = {row["point_key"]: known(row[metric]) for row in new}
    pairs = [(before[p.old.point_key], after[p.new.point_key]) for p in found.pairs]
    pairs = [(a, b) for a, b in pairs if not math.isnan(a)]
    gate = parse(f"{metric} {sign} {limit:+g}{'%' if percent else ''}")
    if not pairs:
        with pytest.raises(reports.ReportError, match="to compare with"):
            judge(gate, found)
        return
    expected = 0
    for a, b in pairs:
        if math.isnan(b):
            expected += 1
        elif not percent:
            expected += OPERATORS[sign](b - a, limit)
        elif a == 0:
            expected += OPERATORS[sign](0.0 if b == 0 else math.inf, limit)
        else:
            expected += OPERATORS[sign]((b - a) / a, limit / 100)
    verdict = judge(gate, found)
    assert (len(verdict.hits), verdict.looked_at) == (expected, len(pairs))


def two(low: float, high: float) -> Changes:
    row = {"point_key": "a", "method": "dip", "status": "done", "ppl": 10.0, "tokens_per_s": 1.0}
    intervals = {("a", "ppl"): (low, high)}
    return changes([row], [{**row, "ppl": 10.1}], intervals=intervals)


@pytest.mark.parametrize(
    ("interval", "hits", "unknown"),
    [
        ((0.05, 0.15), 1, 0),
        ((-0.05, 0.15), 0, 0),
        ((0.0, 0.2), 0, 0),
        ((-0.2, -0.1), 1, 0),
        ((math.nan, math.nan), 0, 1),
    ],
)
def test_significance_is_asked_of_the_interval(
    interval: tuple[float, float], hits: int, unknown: int
) -> None:
    verdict = judge(parse("ppl > +0.05 significant"), two(*interval))
    assert (len(verdict.hits), verdict.unknown) == (hits, unknown)
    assert len(judge(parse("ppl > +0.05"), two(*interval)).hits) == 1


def test_counts_of_points() -> None:
    row = {"method": "dip", "status": "done", "tokens_per_s": 1.0}
    old = [{**row, "point_key": k, "density": d} for k, d in (("a", 0.5), ("b", 0.6), ("c", 0.7))]
    new = [{**old[0], "status": "failed", "tokens_per_s": None}, old[1]]
    found = changes(old, [*new, {**row, "point_key": "d", "density": 0.9}])
    counts = {"added": 1, "removed": 1, "failed": 1}
    for name, count in counts.items():
        assert len(judge(parse(f"{name} > 0"), found).hits) == count
        assert judge(parse(f"{name} > {count}"), found).hits == []
    (hit,) = judge(parse("removed > 0"), found).hits
    assert hit.text.startswith("removed > 0: dip · density 0.7")
    (gone,) = judge(parse("tokens_per_s < -2%"), found).hits
    assert gone.text.endswith("1 -> no value any more")


def test_the_best_within_a_budget_is_gated() -> None:
    row = {"method": "dip", "status": "done", "delta_ppl": 0.1, "dram_gb": 4.0}
    old = [{**row, "point_key": "a", "density": 0.5, "tokens_per_s": 10.0}]
    slower = [{**row, "point_key": "a", "density": 0.5, "tokens_per_s": 9.8}]
    found = changes(old, slower)
    (hit,) = judge(parse("best@0.2 < -1%"), found).hits
    assert "within +0.2 PPL: dip · density 0.5" in hit.text
    assert "10 -> 9.8 (-0.2, -2 %)" in hit.text
    assert judge(parse("best@0.2 < -3%"), found).hits == []
    none = changes(old, [{**old[0], "delta_ppl": 0.9}])
    assert len(judge(parse("best@0.2 < -50%"), none).hits) == 1
    with pytest.raises(reports.ReportError, match="to compare with"):
        judge(parse("best@0.7 < 0"), found)


def test_kl_and_flips_are_compared_where_the_old_run_has_them() -> None:
    row = {"method": "dip", "status": "done", "delta_ppl": 0.1, "dram_gb": 4.0, "density": 0.5}
    row |= {"point_key": "a", "tokens_per_s": 10.0}
    far = {**row, "kl": 0.02, "kl_high": 0.03, "flip_rate": 0.05, "linear_density": 0.6}
    farther = {**far, "kl": 0.04, "kl_high": 0.05}
    newly = changes([row], [far])
    assert newly.changed == [], "what the old run did not measure has not changed"
    found = changes([far], [farther])
    assert [d.metric for d in found.changed[0].differences.values() if not d.same] == ["kl"]
    page = WRITERS["text"]([(found, [])])
    assert "kl: was, is 0.02000, 0.04000 (+0.0200)" in page
    assert "flip_rate" not in page
    (hit,) = judge(parse("kl > +0.01"), found).hits
    assert hit.text.endswith("0.02 -> 0.04 (+0.02, +100 %)")
    assert judge(parse("flip_rate > 0"), found).hits == []
    (gone,) = judge(parse("kl > +0.01"), changes([far], [row])).hits
    assert gone.text.endswith("no value any more")
    with pytest.raises(reports.ReportError, match="to compare with"):
        judge(parse("kl > 0"), newly)


def test_the_best_within_a_kl_is_gated() -> None:
    row = {"method": "dip", "status": "done", "delta_ppl": 0.1, "dram_gb": 4.0, "density": 0.5}
    row |= {"point_key": "a", "kl": 0.01, "tokens_per_s": 10.0}
    gate = parse("best@kl=0.02 < -1%")
    found = compare(
        side("old", filled([row])),
        side("new", filled([{**row, "kl": 0.03}])),
        parse_all(["kl=0.02"]),
    )
    (hit,) = judge(gate, found).hits
    assert "within KL ≤ 0.02 nat: dip" in hit.text
    assert hit.text.endswith("10 -> no value any more")


def test_attention_and_first_tokens_tell_points_of_other_keys_apart() -> None:
    row = {"method": "teal", "status": "done", "delta_ppl": 0.1, "dram_gb": 4.0, "density": 0.5}
    row |= {"tokens_per_s": 1.0}
    written = [json.dumps({"attention": attention}) for attention in ("none", "same")]
    old = [{**row, "point_key": f"a{i}", "parameters": text} for i, text in enumerate(written)]
    new = [{**r, "point_key": r["point_key"] + "x"} for r in old]
    assert [(p.old.point_key, p.new.point_key) for p in changes(old, new).pairs] == [
        ("a0", "a0x"),
        ("a1", "a1x"),
    ]
    late = [{**r, "dense_tokens": 64} for r in new]
    assert changes(old, late).pairs == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write METRIC < NUMBER"),
        ("tokens_per_s", "write METRIC < NUMBER"),
        ("tokens_per_s == 3", "write METRIC < NUMBER"),
        ("tokens_per_s < x", "write METRIC < NUMBER"),
        ("tokens_per_s < 1 or 1", "write METRIC < NUMBER"),
        ("__import__('os') < 1", "write METRIC < NUMBER"),
        ("tokens_per_s < -2% # c", "write METRIC < NUMBER"),
        ("tokens_per_sec < 1", "did you mean tokens_per_s"),
        ("best < 1", "a budget goes with best alone"),
        ("ppl@0.2 < 1", "a budget goes with best alone"),
        ("best@much < 1", "must be a perplexity increase"),
        ("added > 1%", "a number of points"),
        ("tokens_per_s < 0 significant", "only ppl and delta_ppl"),
        ("ppl > 1e999", "too large"),
    ],
)
def test_an_expression_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(reports.ReportError, match=message.replace("(", r"\(")):
        parse(text)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_or_is_a_comparison(text: str) -> None:
    try:
        gate = parse(text)
    except reports.ReportError:
        return
    assert gate.operator in text
    assert math.isfinite(gate.limit)


@given(
    st.sampled_from([*METRICS, "acc_mmlu", "best@0.2", "best@5%"]),
    st.sampled_from(sorted(OPERATORS)),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.booleans(),
    st.sampled_from(["", " ", "  "]),
)
def test_every_good_expression_is_read(
    metric: str, sign: str, limit: float, percent: bool, space: str
) -> None:
    gate = parse(f"{space}{metric}{space}{sign}{space}{limit!r}{'%' if percent else ''}{space}")
    assert f"{gate.metric}@0.2" == metric or metric.partition("@")[0] == gate.metric
    assert (gate.operator, gate.relative) == (sign, percent)
    assert gate.limit == limit / (100 if percent else 1)


def test_a_share_from_zero() -> None:
    assert Difference("ppl", 0.0, 0.0).share == 0.0
    assert Difference("ppl", 0.0, 2.0).share == math.inf
    assert Difference("ppl", 0.0, -2.0).share == -math.inf
    assert Difference("ppl", -2.0, -3.0).share == -0.5  # a fall is negative from below zero, too


# -- pages -----------------------------------------------------------------------------------

NASTY = rf"{synthetic.NASTY} <img src=x onerror=alert(1)>"
SCHEMA = {
    "type": "object",
    "required": ["schema", "schema_version", "failed", "comparisons"],
    "properties": {
        "schema": {"const": "flash-sweep/compare"},
        "schema_version": {"const": 1},
        "failed": {"type": "boolean"},
    },
}


def compared() -> list[tuple[Changes, list[Verdict]]]:
    old = synthetic.table(synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,))).to_pylist()
    old = with_facts({**row, "model": NASTY, "device": NASTY} for row in old)
    new = [{**row, "tokens_per_s": (row["tokens_per_s"] or 1) * 0.9} for row in old[5:]]
    found = compare(side(NASTY, old), side("new", new), BUDGETS)
    return [(found, [judge(parse("tokens_per_s < -2%"), found)])]


def test_pages_are_literal() -> None:
    given = compared()
    text = WRITERS["md"](given)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    kinds = {child.type for token in tokens for child in token.children or []}
    assert not kinds & {"html_inline", "link_open", "image", "em_open", "code_inline"}
    assert not any(t.type == "html_block" for t in tokens)
    page = WRITERS["html"](given)
    assert "<img" not in page
    assert "<script" not in page
    assert "<b>" not in page
    assert "default-src 'none'" in page
    document = json.loads(WRITERS["json"](given), parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA)
    (one,) = document["comparisons"]
    assert document["failed"] is True
    assert one["old"]["name"] == NASTY
    assert len(one["removed"]) == 5
    assert len(one["gates"][0]["hits"]) == len(given[0][1][0].hits) > 0


def test_an_empty_run_can_be_compared(tmp_path: Path) -> None:
    found = changes([], [])
    for write in WRITERS.values():
        assert write([(found, [])])


def test_a_terminal_reads_plain_text() -> None:
    """No markup: what Markdown would escape stands as it is."""
    old = synthetic.table(synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,)), flaws=False)
    rows = old.to_pylist()
    rows[1] |= {"tokens_per_s": 1.0, "model": rows[1]["model"]}
    changes = compare(
        side("a_run", with_facts(old.to_pylist())), side("b_run", with_facts(rows)), BUDGETS
    )
    gate = parse("tokens_per_s < -2%")
    text = WRITERS["text"]([(changes, [judge(gate, changes)])])
    assert text.startswith("a_run and b_run\n")
    assert "Gate: tokens_per_s < -2%: FAILED" in text
    assert "Points that changed: 1 of" in text
    for mark in ("\\_", "| ", "##", "&lt;", "**"):
        assert mark not in text
