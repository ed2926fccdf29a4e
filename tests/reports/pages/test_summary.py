"""What headlines say: dense first where it wins, what is sure, and nothing about no difference."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from reports.findings import cache_aware
from reports.findings.points import Point
from reports.numbers import signed
from reports.pages.palette import policy_looks
from reports.pages.summary import by_frontier, headlines
from reports.reading.run import Run, load
from tests.reports import synthetic

SHAPE = synthetic.Shape(densities=(0.7, 0.9), dram_gb=(0.05, 0.06), flash_gbps=(1.0,))


def run_of(folder: Path, change: Any = None, budgets: tuple[str, ...] = ("0.2", "5%")) -> Run:
    found = synthetic.table(SHAPE, flaws=False).to_pylist()
    for row in found:
        if change is not None:
            change(row)
    return load(synthetic.run_folder(folder / "run", synthetic.to_table(found)), budgets)


def test_dense_is_the_first_sentence_where_nothing_is_faster(tmp_path: Path) -> None:
    def slow(row: dict[str, Any]) -> None:
        if row["method"] != "dense":
            row["tokens_per_s"] = 0.9 * row["tokens_per_s_dense"]

    run = run_of(tmp_path, slow, ("1%", "2%"))
    assert headlines(run) == ["Ship dense: nothing within +2 % is faster in both device settings."]
    assert all(d.best and d.best.dense and d.runner_up is None for d in run.decisions)


def test_a_looser_budget_than_that_of_dense_is_said_after_it(tmp_path: Path) -> None:
    def costly(row: dict[str, Any]) -> None:
        if row["method"] != "dense":
            row |= {"delta_ppl": 0.5, "delta_ppl_low": 0.4, "delta_ppl_high": 0.6}

    first, second = headlines(run_of(tmp_path, costly, ("0.1", "0.2", "1")))
    assert first.startswith("Ship dense: nothing within +0.2 PPL is faster")
    assert "surely within +1 PPL" in second
    assert "Every choice is sure" in second


def test_the_headline_is_at_the_budget_of_which_most_is_sure(tmp_path: Path) -> None:
    def doubtful(row: dict[str, Any]) -> None:
        if row["method"] != "dense":
            row["delta_ppl_high"] = row["delta_ppl"] + 0.5

    run = run_of(tmp_path, doubtful, ("0.1", "0.2", "0.5", "20%"))
    (line,) = [text for text in headlines(run) if "surely within" in text]
    assert "surely within +20 %" in line
    assert {d.budget.label for d in run.headline} == {"+20 %"}


def test_where_no_pruned_choice_is_sure_dense_is(tmp_path: Path) -> None:
    def unknown(row: dict[str, Any]) -> None:
        if row["method"] != "dense":
            row["delta_ppl_high"] = math.nan

    run = run_of(tmp_path, unknown)
    (line,) = headlines(run)
    assert "dense is fastest in both device settings" in line
    assert "Not sure (±), but by the point estimate:" in line
    assert all(d.conservative and d.conservative.dense for d in run.decisions)


def test_budgets_that_were_not_asked_for_are_not_named(tmp_path: Path) -> None:
    text = " ".join(headlines(run_of(tmp_path, budgets=("2%",))))
    assert "+2 %" in text
    assert "+1 %" not in text
    assert "+5 %" not in text


def test_points_open_at_the_frontier(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    ordered = by_frontier(run.points)
    assert sorted(p.point_key for p in ordered) == sorted(p.point_key for p in run.points)
    line = _until_it_falls(ordered)
    assert len(line) > 2
    assert not any(p.bound for p in line)
    for earlier, later in itertools.pairwise(line):
        if earlier.setting == later.setting:
            assert later.delta_ppl > earlier.delta_ppl
            assert later.tokens_per_s > earlier.tokens_per_s


def _until_it_falls(points: list[Point]) -> list[Point]:
    """The frontier of the first setting: points of it that each cost more than those before."""
    first = points[0].setting
    place = next(i for i, p in enumerate(points) if p.setting != first)
    return points[:place]


@pytest.mark.parametrize("ratio", [1.0, 1.0004, 0.9996])
def test_no_difference_is_not_a_zero_more(tmp_path: Path, ratio: float) -> None:
    run = run_of(tmp_path)
    compared = [c for c in run.comparisons if c.ratio is not None]
    equal = [
        dataclasses.replace(
            c,
            point=dataclasses.replace(
                c.point,
                flash_bytes_per_token=ratio * (c.plain_bytes or 1),
                tokens_per_s=ratio * (c.plain_speed or 1),
            ),
        )
        for c in compared
    ]
    text = " ".join(cache_aware.sentences(equal))
    assert "0.0 %" not in text
    assert "reads as many Flash bytes per token as dip" in text
    assert "gives as many tok/s (median)" in text


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    assert signed(0.00004, 3) == signed(-0.00004, 3) == "0.000"
    assert signed(0.0006, 3) == "+0.001"
    assert signed(-0.0006, 3) == "−0.001"


def test_no_two_policies_look_alike() -> None:
    names = ["none", "static", "lru", "lfu", "belady", "min", *(f"own-{i}" for i in range(5))]
    found = policy_looks(names)
    assert len({(look.light, look.marker) for look in found.values()}) == len(names)
    assert len({look.marker for name, look in found.items() if "own" not in name}) == 6
    assert len({look.dash for name, look in found.items() if "own" not in name}) == 6
