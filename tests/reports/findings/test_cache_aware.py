"""Cache-aware points are compared inside the plain range only, and the finding is told as it is."""

from __future__ import annotations

from typing import Any

import pytest

from reports.findings.cache_aware import compare, findings, sentences
from reports.findings.points import points
from reports.results import with_facts
from tests.reports import synthetic

PLAIN = [(0.1, 100.0), (0.3, 80.0), (0.2, 95.0), (0.25, 99.0)]  # the last one is no frontier point


def rows(aware: list[tuple[float, float]], **changes: Any) -> list[dict[str, Any]]:
    common = {"method": "dip", "policy": "lfu", "status": "done", "tokens_per_s": 1.0, "gamma": 1.0}
    plain = [
        {**common, "selector": "topk", "delta_ppl": d, "flash_bytes_per_token": f} for d, f in PLAIN
    ]
    changed = {**common, "selector": "cache-aware", "gamma": 0.2, **changes}
    return plain + [{**changed, "delta_ppl": d, "flash_bytes_per_token": f} for d, f in aware]


def compared(aware: list[tuple[float, float]], **changes: Any) -> list[Any]:
    return compare(points(with_facts(rows(aware, **changes))))


def test_the_plain_frontier_is_read_at_equal_loss() -> None:
    first, second, third = compared([(0.1, 50.0), (0.15, 78.0), (0.25, 70.0)])
    assert (first.plain_bytes, first.ratio) == (100.0, 0.5)
    assert second.plain_bytes == pytest.approx(97.5)
    assert third.plain_bytes == pytest.approx(87.5)  # the line from 95 to 80, not the point at 99


@pytest.mark.parametrize("loss", [0.0999, 0.3001])
def test_nothing_is_compared_outside_the_plain_range(loss: float) -> None:
    (only,) = compared([(loss, 50.0)])
    assert only.plain_bytes is None
    assert only.ratio is None
    assert "could not be set against dip" in sentences([only])[0]


def test_another_policy_has_no_plain_counterpart() -> None:
    (only,) = compared([(0.2, 50.0)], policy="lru")
    assert only.plain_bytes is None


def test_failed_points_and_gamma_one_are_left_out() -> None:
    assert compared([(0.2, 50.0)], status="failed") == []
    assert compared([(0.2, 50.0)], gamma=1.0) == []


def test_a_finding_counts_its_points() -> None:
    (finding,) = findings(compared([(0.1, 50.0), (0.2, 114.0), (0.3, 60.0), (0.9, 1.0)]))
    assert (finding.compared, finding.outside, finding.fewer) == (3, 1, 2)
    assert finding.median_ratio == pytest.approx(0.75)
    assert finding.low_ratio == pytest.approx(0.5)
    assert finding.high_ratio == pytest.approx(1.2)


def test_speeds_are_compared_at_equal_loss_too() -> None:
    found = rows([(0.1, 50.0), (0.2, 60.0), (0.3, 72.0)])
    for row in found:
        row["tokens_per_s"] = 1000.0 / row["flash_bytes_per_token"]
    compared = compare(points(with_facts(found)))
    assert [c.plain_speed for c in compared] == pytest.approx([10.0, 1000 / 95, 12.5])
    assert [c.speedup for c in compared] == pytest.approx([2.0, 95 / 60, 80 / 72])
    assert "and gives 58.3 % more tok/s (median)" in sentences(compared)[0]
    assert "gives" not in sentences(compare(points(with_facts(rows([(0.9, 1.0)])))))[0]


def test_the_sentence_says_what_was_found() -> None:
    (agreed,) = sentences(compared([(0.1, 50.0), (0.3, 72.0)]))
    assert "dip-ca reads 30.0 % fewer Flash bytes per token than dip" in agreed
    assert "The paper reports the same" in agreed
    (mixed,) = sentences(compared([(0.1, 50.0), (0.1, 90.0), (0.3, 96.0)]))
    assert "fewer at 2 of 3" in mixed
    assert "holds at most points" in mixed
    (against,) = sentences(compared([(0.1, 150.0)]))
    assert "50.0 % more" in against
    assert "not what the paper reports" in against


def test_no_flash_at_all_is_no_ratio() -> None:
    free = rows([(0.1, 0.0)])
    for row in free:
        row["flash_bytes_per_token"] = 0.0
    (only,) = compare(points(with_facts(free)))
    assert only.ratio is None
    assert "reads no Flash" in sentences([only])[0]


def test_a_run_without_cache_aware_points_has_no_sentence() -> None:
    shape = synthetic.Shape(gammas=())
    from reports.results import rows as read

    assert sentences(compare(points(read(synthetic.table(shape))))) == []
