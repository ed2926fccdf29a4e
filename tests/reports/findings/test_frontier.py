"""Frontiers and best-within-budget equal their definitions, written out as plainly as can be."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.findings.frontier import best_within, interpolate, neighbours, pareto

# Few distinct values make ties frequent; NaN and infinities stand for what was not measured.
VALUES = st.one_of(
    st.integers(-3, 6).map(float),
    st.floats(-5, 50, allow_nan=False),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
PAIRS = st.lists(st.tuples(VALUES, VALUES), max_size=25)


def columns(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [cost for cost, _ in pairs], [value for _, value in pairs]


def usable(pairs: list[tuple[float, float]]) -> list[int]:
    return [i for i, pair in enumerate(pairs) if all(math.isfinite(x) for x in pair)]


def beaten(pairs: list[tuple[float, float]], i: int, j: int) -> bool:
    """j is as good as i on both, and better on one or, being equal, earlier."""
    as_good = pairs[j][0] <= pairs[i][0] and pairs[j][1] >= pairs[i][1]
    return as_good and (pairs[j] != pairs[i] or j < i)


@given(PAIRS)
def test_pareto_is_what_no_other_beats(pairs: list[tuple[float, float]]) -> None:
    candidates = usable(pairs)
    expected = {i for i in candidates if not any(beaten(pairs, i, j) for j in candidates)}
    found = pareto(*columns(pairs))
    assert set(found) == expected
    assert found == sorted(found, key=lambda i: pairs[i][0])


@given(PAIRS, VALUES)
def test_best_within_is_the_highest_value_in_the_limit(
    pairs: list[tuple[float, float]], limit: float
) -> None:
    within = [i for i in usable(pairs) if pairs[i][0] <= limit]
    found = best_within(*columns(pairs), limit)
    if not within:
        assert found is None
        return
    top = max(pairs[i][1] for i in within)
    cheapest = min(pairs[i][0] for i in within if pairs[i][1] == top)
    assert found == min(i for i in within if pairs[i] == (cheapest, top))


@given(PAIRS, VALUES)
def test_the_best_value_is_on_the_frontier(pairs: list[tuple[float, float]], limit: float) -> None:
    costs, values = columns(pairs)
    line = pareto(costs, values)
    best = best_within(costs, values, limit)
    on_line = best_within([costs[i] for i in line], [values[i] for i in line], limit)
    assert (None if on_line is None else line[on_line]) == best


@given(PAIRS, VALUES)
def test_interpolation_stays_between_its_neighbours(
    pairs: list[tuple[float, float]], at: float
) -> None:
    costs, values = columns(pairs)
    line = pareto(costs, values)
    xs, ys = [costs[i] for i in line], [values[i] for i in line]
    found = interpolate(xs, ys, at)
    inside = bool(xs) and xs[0] <= at <= xs[-1]
    assert (found is not None) == inside
    if found is None:
        assert neighbours(xs, at) is None
        return
    below = max(y for x, y in zip(xs, ys, strict=True) if x <= at)
    above = min(y for x, y in zip(xs, ys, strict=True) if x >= at)
    assert below <= found <= above


def test_interpolation_is_the_straight_line() -> None:
    assert interpolate([0.0, 0.2, 0.6], [10.0, 20.0, 40.0], 0.3) == pytest.approx(25.0)
    assert interpolate([0.0, 0.2, 0.6], [10.0, 20.0, 40.0], 0.2) == 20.0


@pytest.mark.parametrize("at", [-0.01, 0.61, math.nan, math.inf])
def test_nothing_is_extrapolated(at: float) -> None:
    assert interpolate([0.0, 0.2, 0.6], [10.0, 20.0, 40.0], at) is None
    assert interpolate([], [], at) is None
