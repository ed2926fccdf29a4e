"""The proof: fast kernels and plain reference agree exactly, on more than ten thousand cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given

import simulator
from simulator import policies
from tests.simulator.cases import Case, ScoreCase, cases, many, score_cases

WITH_KERNEL = ("none", "lru", "lfu", "belady", "min", "static")


def check_simulate(case: Case) -> None:
    masks, start = case.masks, case.start
    for policy in WITH_KERNEL:
        if policy == "static" and start is None:
            continue
        fast = simulator.simulate(masks, case.capacity, policy, start)
        slow = policies.simulate_plainly(masks, case.capacity, policy, start)
        assert fast.dtype == np.int64
        np.testing.assert_array_equal(fast, slow, err_msg=policy)


def check_cache_aware(case: ScoreCase) -> None:
    scores, start = case.scores, case.start
    for policy in ("lfu", "lru"):
        arguments = (scores, case.k, case.capacity, case.gamma, policy, start)
        masks, hits = simulator.cache_aware(*arguments)
        slow_masks, slow_hits = policies.cache_aware(*arguments)
        np.testing.assert_array_equal(masks, slow_masks, err_msg=policy)
        np.testing.assert_array_equal(hits, slow_hits, err_msg=policy)


def check_top_k(case: ScoreCase) -> None:
    slow = policies.top_k(case.scores, case.k)
    np.testing.assert_array_equal(simulator.top_k(case.scores, case.k), slow)
    magnitudes = policies.top_k(np.abs(case.scores), case.k)
    packed = simulator.select(case.scores, case.k).packed
    np.testing.assert_array_equal(simulator.unpack(packed, case.units), magnitudes)


@given(cases())
@example(Case(seed=0, tokens=5, units=1, kind="all", capacity=0, hot=False))
@example(Case(seed=0, tokens=5, units=300, kind="half", capacity=303, hot=True))
@many(5000)
def test_simulate(case: Case) -> None:
    check_simulate(case)


@given(cases(most_units=80, most_tokens=60))
@many(1000)
def test_simulate_longer_sessions(case: Case) -> None:
    check_simulate(case)


@given(cases(most_units=40, most_tokens=20))
@many(800)
def test_lru_curve(case: Case) -> None:
    fast = simulator.lru_curve(case.masks, case.start)
    np.testing.assert_array_equal(fast, policies.lru_curve(case.masks, case.start))


@given(score_cases())
@many(2500)
def test_cache_aware(case: ScoreCase) -> None:
    check_cache_aware(case)


@given(score_cases(most_units=300, most_tokens=12))
@many(2500)
def test_top_k(case: ScoreCase) -> None:
    check_top_k(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(cases(most_tokens=40))
@many(30000)
def test_simulate_at_length(case: Case) -> None:
    check_simulate(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(score_cases(most_units=300, most_tokens=30))
@many(15000)
def test_selection_at_length(case: ScoreCase) -> None:
    check_cache_aware(case)
    check_top_k(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("units", [576, 1536, 5120])
@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.8])
def test_real_sizes(units: int, fraction: float) -> None:
    rng = np.random.default_rng(units)
    liking = np.exp(rng.standard_normal(units))
    scores = np.abs(rng.standard_normal((80, units)) * liking).astype(np.float32)
    capacity = int(fraction * units)
    for k in (units // 3, units // 2, 7 * units // 10):
        for policy in ("lfu", "lru"):
            masks, hits = simulator.cache_aware(scores, k, capacity, 0.2, policy)
            slow_masks, slow_hits = policies.cache_aware(scores, k, capacity, 0.2, policy)
            np.testing.assert_array_equal(masks, slow_masks)
            np.testing.assert_array_equal(hits, slow_hits)
        for policy in ("lru", "lfu", "belady", "min"):
            fast = simulator.simulate(masks, capacity, policy)
            np.testing.assert_array_equal(fast, policies.simulate_plainly(masks, capacity, policy))
