"""Perplexity and its interval, against formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.results.perplexity import Losses, delta_interval


def losses(nll: list[float], predicted: list[int]) -> Losses:
    return Losses(np.array(nll, np.float64), np.array(predicted, np.float64))


def test_perplexity_weighs_windows_by_their_tokens() -> None:
    assert losses([2.0, 9.0], [1, 3]).perplexity == pytest.approx(math.exp(11 / 4))


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    assert losses([1e6], [10]).perplexity == math.inf


def test_one_window_has_no_interval() -> None:
    low, high = delta_interval(losses([3.0], [2]), losses([2.0], [2]), seed=0)
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_same_losses_differ_by_nothing() -> None:
    same = losses([3.0, 4.0, 5.0], [2, 2, 2])
    assert delta_interval(same, same, seed=0) == (0.0, 0.0)


def test_the_interval_is_paired() -> None:
    """Windows differ widely, the two models by the same factor in each: a narrow interval."""
    nll = [1.0, 5.0, 2.0, 8.0, 3.0, 6.0]
    dense = losses(nll, [10] * 6)
    own = losses([x + 1 for x in nll], [10] * 6)
    low, high = delta_interval(own, dense, seed=0)
    assert 0 < low < own.perplexity - dense.perplexity < high
    factor = math.exp(0.1) - 1
    ratio = [bound / factor for bound in (low, high)]
    assert math.exp(0.1) <= ratio[0] <= dense.perplexity <= ratio[1] <= math.exp(0.8)


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(2)
    dense, more = rng.normal(30, 3, 20), rng.normal(2, 1, 20)
    low, high = delta_interval(
        losses((dense + more).tolist(), [10] * 20), losses(dense.tolist(), [10] * 20), seed=5
    )
    found = []
    for _ in range(4000):
        drawn = rng.integers(0, 20, 20)
        own = math.exp((dense + more)[drawn].sum() / 200)
        found.append(own - math.exp(dense[drawn].sum() / 200))
    width = np.percentile(found, 97.5) - np.percentile(found, 2.5)
    assert low == pytest.approx(np.percentile(found, 2.5), abs=0.1 * width)
    assert high == pytest.approx(np.percentile(found, 97.5), abs=0.1 * width)


def test_a_seed_is_all_the_chance_there_is() -> None:
    nll = np.linspace(20, 30, 12)
    own, dense = losses((nll + nll**0.5).tolist(), [9] * 12), losses(nll.tolist(), [9] * 12)
    assert delta_interval(own, dense, 1) == delta_interval(own, dense, 1)
    assert delta_interval(own, dense, 1) != delta_interval(own, dense, 2)


@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=8), st.floats(0, 5))
def test_losing_everywhere_is_losing(nll: list[float], more: float) -> None:
    dense = losses(nll, [10] * len(nll))
    own = losses([x + more for x in nll], [10] * len(nll))
    low, high = delta_interval(own, dense, seed=0)
    assert -1e-9 <= low <= high
