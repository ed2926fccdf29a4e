"""Perplexity and its intervals, against formulas written out and by how often they hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweep.results.perplexity import (
    Losses,
    change_interval,
    delta_interval,
    ratio_interval,
    student_t,
)


def losses(nll: list[float], predicted: list[int]) -> Losses:
    return Losses(np.array(nll, np.float64), np.array(predicted, np.float64))


def test_perplexity_weighs_windows_by_their_tokens() -> None:
    assert losses([2.0, 9.0], [1, 3]).perplexity == pytest.approx(math.exp(11 / 4))


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    assert losses([1e6], [10]).perplexity == math.inf


def test_a_loss_beyond_floats_has_no_interval() -> None:
    far, near = losses([1e6, 2e6], [10, 10]), losses([20.0, 30.0], [10, 10])
    assert all(math.isnan(end) for end in delta_interval(far, near))


@pytest.mark.parametrize("interval", [delta_interval, ratio_interval, change_interval])
def test_one_window_has_no_interval(interval: Callable[..., tuple[float, float]]) -> None:
    assert all(math.isnan(end) for end in interval(losses([3.0], [2]), losses([2.0], [2])))


def test_the_same_losses_differ_by_nothing() -> None:
    same = losses([3.0, 4.0, 5.0], [2, 2, 2])
    assert delta_interval(same, same) == (0.0, 0.0)
    assert ratio_interval(same, same) == (1.0, 1.0)


def test_the_ratio_is_that_of_paired_differences() -> None:
    """With windows of one length it is that of a plain paired t test, but for the skewness."""
    rng = np.random.default_rng(3)
    dense, more = rng.normal(300, 30, 6), rng.normal(20, 5, 6)
    own = losses((dense + more).tolist(), [100] * 6)
    plain = stats.ttest_1samp(more / 100, 0).confidence_interval(0.95)
    skew = float(stats.skew(more, bias=False)) * np.std(more / 100, ddof=1) / 36
    out = min(abs(skew) * (1 + 2 * student_t(5) ** 2), (plain.high - plain.low) / 4)
    expected = (plain.low - out, plain.high) if skew < 0 else (plain.low, plain.high + out)
    found = ratio_interval(own, losses(dense.tolist(), [100] * 6))
    assert tuple(map(math.log, found)) == pytest.approx(expected)


def test_the_interval_is_paired() -> None:
    """Windows differ widely, the two models by the same factor in each: a ratio without doubt."""
    nll = [1.0, 5.0, 2.0, 8.0, 3.0, 6.0]
    dense = losses(nll, [10] * 6)
    own = losses([x + 1 for x in nll], [10] * 6)
    assert ratio_interval(own, dense) == pytest.approx((math.exp(0.1), math.exp(0.1)))
    low, high = delta_interval(own, dense)  # the level is as uncertain as windows differ
    assert 0 < low < own.perplexity - dense.perplexity < high
    level = math.sqrt(np.var(nll, ddof=1) / 6) / 10 * student_t(5)
    delta = own.perplexity - dense.perplexity
    assert 2 * delta * level < high - low < 2 * delta * level * (1 + level / 2)


def test_windows_count_by_their_tokens() -> None:
    """A window of twice the tokens weighs as two with these losses; the spread is of windows."""
    own, dense = losses([24.0, 11.0, 15.0], [20, 10, 10]), losses([20.0, 10.0, 10.0], [20, 10, 10])
    d = 10 / 40
    residuals = np.array([4 - 20 * d, 1 - 10 * d, 5 - 10 * d]) / 40
    half = student_t(2) * math.sqrt((residuals**2).sum() * 3 / 2)
    low, high = map(math.log, ratio_interval(own, dense))
    assert residuals.sum() == pytest.approx(0)
    assert (residuals**3).sum() > 0  # so the upper end goes out, here by all that it may
    assert (low, high) == pytest.approx((d - half, d + 1.5 * half))


def test_the_quantiles_are_students() -> None:
    assert student_t(1) == pytest.approx(12.7062, abs=1e-4)
    assert student_t(3) == pytest.approx(3.1824, abs=1e-4)
    assert student_t(7, 0.99) == pytest.approx(3.4995, abs=1e-4)


def test_no_sum_depends_on_the_order_of_windows() -> None:
    rng = np.random.default_rng(0)
    nll = rng.normal(30, 3, (2, 12))
    own, dense = (Losses(row, np.full(12, 9.0)) for row in nll)
    order = rng.permutation(12)
    mixed = [Losses(row[order], np.full(12, 9.0)) for row in nll]
    assert delta_interval(mixed[0], mixed[1]) == pytest.approx(
        delta_interval(own, dense), rel=1e-12
    )


def difference(own: Losses, dense: Losses) -> float:
    return own.perplexity - dense.perplexity


def ratio(own: Losses, dense: Losses) -> float:
    return own.perplexity / dense.perplexity


@pytest.mark.parametrize("windows", [2, 4, 8, 16])
@pytest.mark.parametrize(
    ("interval", "truth"), [(delta_interval, difference), (ratio_interval, ratio)]
)
@pytest.mark.parametrize("level", [0.02, 0.3])
def test_intervals_hold_the_truth_as_often_as_they_say(
    windows: int,
    interval: Callable[..., tuple[float, float]],
    truth: Callable[[Losses, Losses], float],
    level: float,
) -> None:
    """Windows drawn from many whose losses are skewed, and differ more where they are high."""
    rng = np.random.default_rng(0)
    dense = 3 + 0.4 * rng.gamma(4, 0.5, 4000)
    own = dense + level * rng.gamma(6, 1 / 6, 4000) * dense / 3.8
    tokens = np.full(4000, 511.0)
    every = Losses(own * tokens, tokens), Losses(dense * tokens, tokens)
    right, held = truth(*every), 0
    for _ in range(2000):
        drawn = rng.integers(0, 4000, windows)
        low, high = interval(*(Losses(x.nll[drawn], x.predicted[drawn]) for x in every))
        held += low <= right <= high
    assert 0.93 <= held / 2000 <= 0.98


@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=8), st.floats(0, 5))
def test_losing_everywhere_alike_is_losing(nll: list[float], more: float) -> None:
    dense = losses(nll, [10] * len(nll))
    own = losses([x + more for x in nll], [10] * len(nll))
    low, high = ratio_interval(own, dense)
    assert 1 - 1e-9 <= low <= high
