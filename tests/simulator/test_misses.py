"""Which units are read: equal to the plain loop, and to the hits that are counted elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given

import simulator
from simulator import SimulatorError
from simulator.misses import miss_masks_plainly
from tests.simulator.cases import Case, cases, many

WITH_KERNEL = ("none", "static", "hot-set", "lru", "lfu", "belady", "min")


def check_misses(case: Case) -> None:
    masks, start = case.masks, case.start
    for policy in WITH_KERNEL:
        if start is None and policy in ("static", "hot-set"):
            continue
        missed = simulator.miss_masks(masks, case.capacity, policy, start)
        slow = miss_masks_plainly(masks, min(case.capacity, case.units), policy, start)
        np.testing.assert_array_equal(missed, slow, err_msg=policy)


def check_hits(case: Case) -> None:
    masks, start = case.masks, case.start
    for policy in simulator.POLICIES:
        if start is None and policy in ("static", "hot-set"):
            continue
        missed = simulator.miss_masks(masks, case.capacity, policy, start)
        assert not (missed & ~masks).any(), policy
        hits = simulator.simulate(masks, case.capacity, policy, start)
        np.testing.assert_array_equal((masks & ~missed).sum(axis=1), hits, err_msg=policy)


@given(cases())
@example(Case(seed=0, tokens=5, units=1, kind="all", capacity=0, hot=False))
@example(Case(seed=0, tokens=40, units=300, kind="half", capacity=130, hot=True))
@many(300)
def test_they_equal_the_plain_loop(case: Case) -> None:
    check_misses(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(cases(most_tokens=40))
@many(10000)
def test_they_equal_the_plain_loop_at_length(case: Case) -> None:
    check_misses(case)


@given(cases(most_units=70, most_tokens=30))
@many(200)
def test_what_is_used_and_not_missed_is_a_hit_of_every_policy(case: Case) -> None:
    check_hits(case)


@pytest.mark.parametrize("policy", ["lru", "lfu", "static", "none"])
def test_a_session_may_come_in_parts(policy: str) -> None:
    masks = Case(3, 31, 130, "skewed", 40, True).masks
    start = np.arange(130)[::-1]
    state = simulator.new_state(130, 40, policy, start)
    parts = [simulator.miss_masks(part, 40, policy, state=state) for part in (masks[:7], masks[7:])]
    whole = simulator.miss_masks(masks, 40, policy, start)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_packed_masks_come_back_packed() -> None:
    masks = Case(3, 9, 70, "half", 20, False).masks
    for policy in ("lru", "slru", "min"):
        packed = simulator.miss_masks(simulator.pack(masks), 20, policy, units=70)
        np.testing.assert_array_equal(
            simulator.unpack(packed, 70), simulator.miss_masks(masks, 20, policy)
        )


def test_bad_input_is_one_clear_error() -> None:
    masks = np.ones((2, 5), np.bool_)
    with pytest.raises(SimulatorError, match="did you mean 'lru'"):
        simulator.miss_masks(masks, 2, "lrru")
    with pytest.raises(SimulatorError, match="needs a start"):
        simulator.miss_masks(masks, 2, "static")
    with pytest.raises(SimulatorError, match="capacity is -1"):
        simulator.miss_masks(masks, -1, "lru")
    with pytest.raises(SimulatorError, match=r"must be \[tokens, units\]"):
        simulator.miss_masks(masks[0], 2, "lru")
    with pytest.raises(SimulatorError, match="the state is of policy"):
        simulator.miss_masks(masks, 2, "lru", state=simulator.new_state(5, 3, "lru"))
