"""States carried from call to call, batches of sequences, threads, and masks applied in place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

import simulator
from simulator import CacheState, new_state, policies
from tests.simulator.cases import Case, ScoreCase, cases, many, score_cases

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((4, 30, 150)).astype(np.float32)


@given(cases(most_tokens=30))
@many(300)
def test_a_session_in_parts_is_the_session(case: Case) -> None:
    for policy in ("none", "lru", "lfu", *(["static"] if case.hot else [])):
        state = new_state(case.units, case.capacity, policy, case.start)
        parts = np.array_split(case.masks, [3, 4, 11])
        hits = [simulator.simulate(p, case.capacity, policy, state=state) for p in parts]
        whole = simulator.simulate(case.masks, case.capacity, policy, case.start)
        np.testing.assert_array_equal(np.concatenate(hits), whole)
        assert state.tokens == case.tokens


@given(cases(most_tokens=15))
@many(300)
def test_the_content_is_that_of_the_reference(case: Case) -> None:
    for policy in ("lru", "lfu"):
        state = new_state(case.units, case.capacity, policy, case.start)
        cache = policies.Cache(policy, case.units, case.capacity, case.start)
        for row in case.masks:
            simulator.simulate(row[None], case.capacity, policy, state=state)
            cache.step(np.flatnonzero(row).tolist())
            assert set(state.content.tolist()) == cache.cached


@given(score_cases(most_tokens=30))
@many(300)
def test_a_cache_aware_session_in_parts_is_the_session(case: ScoreCase) -> None:
    for policy in ("lfu", "lru"):
        arguments = (case.k, case.capacity, case.gamma, policy)
        masks, hits = simulator.cache_aware(case.scores, *arguments, case.start)
        state = new_state(case.units, case.capacity, policy, case.start)
        parts = [
            simulator.cache_aware(part, *arguments, state=state)
            for part in np.array_split(case.scores, [2, 9])
        ]
        np.testing.assert_array_equal(np.concatenate([m for m, _ in parts]), masks)
        np.testing.assert_array_equal(np.concatenate([h for _, h in parts]), hits)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("policy", ["lfu", "lru"])
def test_sequences_of_a_batch_do_not_touch_each_other(policy: str, threads: int) -> None:
    masks, hits = simulator.cache_aware(SCORES, 60, 50, 0.2, policy, threads=threads)
    for i, scores in enumerate(SCORES):
        alone_masks, alone_hits = simulator.cache_aware(scores, 60, 50, 0.2, policy)
        np.testing.assert_array_equal(masks[i], alone_masks)
        np.testing.assert_array_equal(hits[i], alone_hits)


@pytest.mark.parametrize("threads", [2, 3, 200])
def test_threads_do_not_change_a_selection(threads: int) -> None:
    one, many_threads = simulator.select(SCORES, 60), simulator.select(SCORES, 60, threads=threads)
    np.testing.assert_array_equal(one.packed, many_threads.packed)
    masks = simulator.top_k(SCORES[0], 60, threads=threads)
    np.testing.assert_array_equal(masks, simulator.top_k(SCORES[0], 60))


def test_masks_do_not_depend_on_what_came_before() -> None:
    """The search starts from the last token's bar; the result must not."""
    together = simulator.top_k(SCORES[0], 60)
    for token, scores in enumerate(SCORES[0]):
        np.testing.assert_array_equal(simulator.top_k(scores[None], 60)[0], together[token])


@pytest.mark.parametrize("gamma", [None, 0.2])
def test_selected_values_or_ones_are_written(gamma: float | None) -> None:
    values, other = SCORES[0].copy(), RNG.standard_normal((30, 150)).astype(np.float32)

    def state() -> CacheState | None:
        return None if gamma is None else new_state(150, 50)

    chosen = simulator.select(values, 60, gamma=gamma or 1, state=state())
    np.testing.assert_array_equal(values, SCORES[0])
    masks = simulator.unpack(chosen.packed, 150)
    for target, ones in ((values, False), (other, False), (other, True)):
        expected = masks.astype(np.float32) if ones else np.where(masks, SCORES[0], np.float32(0))
        again = simulator.select(
            SCORES[0], 60, gamma=gamma or 1, state=state(), target=target, ones=ones
        )
        np.testing.assert_array_equal(again.packed, chosen.packed)
        np.testing.assert_array_equal(target, expected)


def test_values_may_be_their_own_target() -> None:
    values = SCORES[0].copy()
    chosen = simulator.select(values, 60, gamma=0.2, state=new_state(150, 50), target=values)
    masks, hits = simulator.cache_aware(SCORES[0], 60, 50, 0.2)
    np.testing.assert_array_equal(values, np.where(masks, SCORES[0], np.float32(0)))
    np.testing.assert_array_equal(chosen.hits, hits)


def test_zeros_of_both_signs_are_equal() -> None:
    scores = np.array([[0.0, -0.0, 0.0, -0.0], [-0.0, 0.0, -1.0, -0.0]], np.float32)
    assert simulator.top_k(scores, 2).tolist() == [[True, True, False, False]] * 2
