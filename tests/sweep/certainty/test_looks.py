"""When a table is looked at, and that its level is spent once over looks and statistics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.certainty.looks import levels, planned_looks


def test_each_look_has_twice_the_windows_of_the_one_before() -> None:
    assert planned_looks(4, 64) == (4, 8, 16, 32, 64)
    assert planned_looks(4, 50) == (4, 8, 16, 32, 50)


def test_looks_are_whole_shards_but_for_the_last() -> None:
    assert planned_looks(4, 40, step=3) == (6, 12, 24, 40)


def test_a_first_look_at_everything_is_the_only_one() -> None:
    assert planned_looks(16, 16) == (16,)


@given(st.integers(1, 40), st.integers(0, 400), st.integers(1, 9))
def test_looks_rise_and_end_with_all(first: int, more: int, step: int) -> None:
    looks = planned_looks(first, first + more, step)
    assert looks[-1] == first + more
    assert list(looks) == sorted(set(looks))
    assert all(count % step == 0 and count >= first for count in looks[:-1])


@given(st.floats(0.001, 0.5), st.integers(1, 500), st.integers(1, 90), st.integers(4, 300))
def test_what_all_looks_spend_is_the_level(
    alpha: float, statistics: int, cells: int, most: int
) -> None:
    """Upper bounds may fail for every statistic, lower ones for the right answer of each cell."""
    spent = levels(alpha, statistics, cells, planned_looks(4, most))
    within = statistics * sum(level.within for level in spent)
    beyond = min(cells, statistics) * sum(level.beyond for level in spent)
    assert within + beyond == pytest.approx(alpha)
    assert all(level.within > 0 and level.beyond > 0 for level in spent)


def test_a_look_at_too_few_windows_claims_and_spends_nothing() -> None:
    first, second, third = levels(0.05, 10, 5, (2, 4, 8))
    assert (first.within, first.beyond) == (0.0, 0.0)
    assert second.within == pytest.approx(third.within) == pytest.approx(0.025 / 10 / 2)
