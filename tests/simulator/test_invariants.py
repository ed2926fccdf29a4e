"""What must hold of any cache, checked as properties of the fast kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import simulator
from tests.simulator.cases import Case, ScoreCase, cases, cold, many, score_cases

ONLINE = ("none", "lru", "lfu")
CACHING = ("lru", "lfu", "belady", "min")


def total(case: Case, policy: str, capacity: int | None = None) -> int:
    capacity = case.capacity if capacity is None else capacity
    return int(simulator.simulate(case.masks, capacity, policy, case.start).sum())


@given(cases())
@many(300)
def test_a_larger_lru_cache_never_misses_more(case: Case) -> None:
    masks = case.masks
    small = simulator.simulate(masks, case.capacity, "lru", case.start)
    large = simulator.simulate(masks, case.capacity + 1, "lru", case.start)
    assert (small <= large).all()


@given(cases())
@many(300)
def test_the_lru_curve_is_lru_at_every_capacity(case: Case) -> None:
    curve = simulator.lru_curve(case.masks, case.start)
    assert curve.shape == (case.units + 1,)
    assert curve[min(case.capacity, case.units)] == total(case, "lru")
    assert (np.diff(curve) >= 0).all()


@given(cases(most_tokens=25))
@many(500)
def test_no_policy_beats_the_optimum(case: Case) -> None:
    best = total(case, "min")
    rivals = ("none", "lru", "lfu", "belady", *(["static"] if case.hot else []))
    assert all(total(case, policy) <= best for policy in rivals)


@given(cases(most_tokens=25))
@many(500)
def test_belady_beats_lru_while_the_used_units_fit(case: Case) -> None:
    most_used = int(case.masks.sum(axis=1).max(initial=0))
    capacity = max(case.capacity, most_used)
    assert total(case, "belady", capacity) >= total(case, "lru", capacity)


@given(cases())
@many(300)
def test_where_all_units_fit_only_first_uses_miss(case: Case) -> None:
    masks = case.masks
    first_uses = 0 if case.hot else int(masks.any(axis=0).sum())
    for policy in CACHING:
        assert masks.sum() - total(case, policy, case.units) == first_uses


@given(cases())
@many(300)
def test_hits_are_used_units(case: Case) -> None:
    used = case.masks.sum(axis=1)
    for policy in (*ONLINE, *CACHING):
        hits = simulator.simulate(case.masks, case.capacity, policy, case.start)
        assert ((hits >= 0) & (hits <= np.minimum(used, case.capacity))).all()


@given(cases())
@many(200)
def test_without_room_nothing_hits(case: Case) -> None:
    assert all(total(case, policy, 0) == 0 for policy in (*ONLINE, *CACHING))


@given(cases())
@many(200)
def test_tokens_that_use_nothing_change_nothing(case: Case) -> None:
    nothing = np.zeros((1, case.units), np.bool_)
    quiet = np.concatenate((nothing, case.masks, nothing))
    for policy in CACHING:
        hits = simulator.simulate(quiet, case.capacity, policy, case.start)
        same = simulator.simulate(case.masks, case.capacity, policy, case.start)
        np.testing.assert_array_equal(hits[1:-1], same)


@given(score_cases())
@many(500)
def test_gamma_one_is_top_k(case: ScoreCase) -> None:
    scores = np.abs(case.scores)
    for policy in ("lfu", "lru"):
        masks, _ = simulator.cache_aware(scores, case.k, case.capacity, 1.0, policy, case.start)
        np.testing.assert_array_equal(masks, simulator.top_k(scores, case.k))


@given(score_cases())
@many(500)
def test_cache_aware_masks_replayed_give_the_same_hits(case: ScoreCase) -> None:
    for policy in ("lfu", "lru"):
        masks, hits = simulator.cache_aware(
            case.scores, case.k, case.capacity, case.gamma, policy, case.start
        )
        assert (masks.sum(axis=1) == case.k).all()
        again = simulator.simulate(masks, case.capacity, policy, case.start)
        np.testing.assert_array_equal(hits, again)


@pytest.mark.parametrize("policy", ["lru", "lfu"])
@pytest.mark.parametrize("density", [0.1, 0.5])
@pytest.mark.parametrize("fraction", [0.2, 0.6])
def test_masks_without_locality_hit_at_the_cached_fraction(
    policy: str, density: float, fraction: float
) -> None:
    """SEMANTICS 5: i.i.d. masks hit at a rate of f under every online policy."""
    units, tokens = 1000, 1500
    masks = np.random.default_rng(1).random((tokens, units)) < density
    hits = simulator.simulate(masks, int(fraction * units), policy)[200:]
    rate = hits.sum() / masks[200:].sum()
    deviation = 1 / np.sqrt(masks[200:].sum() * fraction)
    assert abs(rate - fraction) < 0.01 + 4 * deviation


def test_lru_is_the_recency_list_cut_at_the_capacity() -> None:
    """Read literally: move used units to the front in their order, keep the first C."""
    rng = np.random.default_rng(4)
    masks = rng.random((60, 40)) < 0.3
    order, seen = list(range(40)), set[int]()
    hits = {capacity: [] for capacity in range(41)}
    for row in masks:
        for capacity, found in hits.items():
            found.append(sum(row[unit] and unit in seen for unit in order[:capacity]))
        order = [u for u in order if row[u]] + [u for u in order if not row[u]]
        seen |= set(np.flatnonzero(row).tolist())
    for capacity, found in hits.items():
        assert simulator.simulate(masks, capacity, "lru").tolist() == found


@given(cases(most_units=60, most_tokens=8))
@many(200)
def test_units_that_are_never_used_change_nothing(case: Case) -> None:
    case = cold(case)
    more = np.zeros((len(case.masks), 70), np.bool_)
    wider = np.concatenate((case.masks, more), axis=1)
    capacity = min(case.capacity, case.units)
    for policy in CACHING:
        hits = simulator.simulate(wider, capacity, policy)
        same = simulator.simulate(case.masks, capacity, policy)
        np.testing.assert_array_equal(hits, same)
