"""Read-aware selection: equal to a plain twin, and no mask is worth more."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given

import simulator
from simulator import ReadCost, SimulatorError
from simulator.policies import Cache
from simulator.read_select import lam_for_density, select_read_aware_plainly
from tests.simulator.cases import many
from tests.simulator.plain_reads import ReadCase, choose_plainly, read_cases, value_of

PHONE = ReadCost.table([(16384, 0.723), (65536, 1.962), (262144, 2.646), (1048576, 2.806)])
COST = ReadCost(latency_us=13.9, gbps=2.95)


def lam_of(case: ReadCase) -> float:
    return case.lam / case.cost(case.unit_bytes)


def check_each(case: ReadCase) -> None:
    scores, resident, lam = case.scores, case.resident, lam_of(case)
    masks = simulator.read_aware(
        scores, case.unit_bytes, case.cost, lam, resident, align_bytes=case.align_bytes
    )
    for token in range(case.tokens):
        row, held = scores[token].tolist(), resident[token].tolist()
        slow = choose_plainly(row, held, case.file, case.cost, lam)
        np.testing.assert_array_equal(masks[token], slow)


def check_scan(case: ReadCase) -> None:
    scores, lam, start = case.scores, lam_of(case), case.start
    arguments = (case.unit_bytes, case.cost, lam)
    for policy in ("lfu", "lru"):
        masks, hits = simulator.read_aware_scan(
            scores, case.capacity, *arguments, policy, start, align_bytes=case.align_bytes
        )
        cache = Cache(policy, case.units, min(case.capacity, case.units), start)
        for token in range(case.tokens):
            held = [unit in cache.cached for unit in range(case.units)]
            slow = choose_plainly(scores[token].tolist(), held, case.file, case.cost, lam)
            np.testing.assert_array_equal(masks[token], slow, err_msg=policy)
            assert hits[token] == cache.step([unit for unit, used in enumerate(slow) if used])


@given(read_cases(most_units=100))
@example(ReadCase(1, 2, 130, "all", "all zero", 594, 4096, True, 1.0, 5, False))
@many(250)
def test_each_token_equals_the_plain_twin(case: ReadCase) -> None:
    check_each(case)


@given(read_cases(most_units=80))
@many(250)
def test_with_a_cache_it_equals_the_plain_twin(case: ReadCase) -> None:
    check_scan(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(read_cases())
@many(10000)
def test_the_plain_twin_at_length(case: ReadCase) -> None:
    check_each(case)
    check_scan(case)


@given(read_cases(most_units=8, most_tokens=1))
@many(150)
def test_no_mask_is_worth_more(case: ReadCase) -> None:
    scores, resident, lam = case.scores, case.resident, lam_of(case)
    masks = simulator.read_aware(
        scores, case.unit_bytes, case.cost, lam, resident, align_bytes=case.align_bytes
    )
    for row, held, chosen in zip(scores.tolist(), resident.tolist(), masks.tolist(), strict=True):
        every = product((False, True), repeat=case.units)
        most = max(value_of(mask, row, held, case.file, case.cost, lam) for mask in every)
        ours = value_of(chosen, row, held, case.file, case.cost, lam)
        assert ours == pytest.approx(most, rel=1e-9, abs=1e-9)


def test_without_a_price_all_that_counts_is_used() -> None:
    scores = np.array([[0, -1, 2, 0, 3]], np.float32)
    for cost in (COST, PHONE):
        masks = simulator.read_aware(scores, 1000, cost, 0)
        assert masks.tolist() == [[False, True, True, False, True]]


def test_at_a_high_price_only_residents_are_used() -> None:
    scores = np.array([[1, 2, 3, 4]], np.float32)
    resident = np.array([True, False, True, False])
    for cost in (COST, PHONE):
        masks = simulator.read_aware(scores, 1000, cost, 1e12, resident)
        assert masks.tolist() == [[True, False, True, False]]


def test_by_hand() -> None:
    cost = ReadCost(latency_us=2, gbps=1)  # 2 microseconds, and one for each unit of 1,000 bytes
    scores = np.array([[10, 1, 8, 0, 0, 0, 3]], np.float32)
    # at 0.1 a microsecond: units 0 to 2 gain 1.9 for 0.5; the last gains 0.3 for 0.3, so it stays
    assert simulator.read_aware(scores, 1000, cost, 0.1e6).tolist() == [[True] * 3 + [False] * 4]
    # at 0.3: all three gain 1.9 for 1.5, the first alone 1 for 0.9
    assert simulator.read_aware(scores, 1000, cost, 0.3e6).tolist() == [[True] * 3 + [False] * 4]
    assert not simulator.read_aware(scores, 1000, cost, 0.4e6).any()
    # the unit between is resident: used for nothing, and read again by the read that passes it
    resident = np.array([[False, True, False, False, False, False, False]])
    masks = simulator.read_aware(scores, 1000, cost, 0.25e6, resident)
    assert masks.tolist() == [[True, True, True] + [False] * 4]
    masks = simulator.read_aware(scores, 1000, cost, 0.4e6, resident)
    assert masks.tolist() == [[False, True] + [False] * 5]


def test_a_session_may_come_in_parts() -> None:
    scores = np.random.default_rng(0).standard_normal((30, 200)).astype(np.float32)
    lam = 0.5 / COST(9000)
    for policy in ("lfu", "lru"):
        whole = simulator.read_aware_scan(scores, 70, 9000, COST, lam, policy)
        state = simulator.new_state(200, 70, policy)
        parts = [
            simulator.read_aware_scan(part, 70, 9000, COST, lam, policy, state=state)
            for part in (scores[:7], scores[7:])
        ]
        for one, pair in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(pair), one)


def test_any_policy_may_stand_between_the_tokens() -> None:
    scores = np.random.default_rng(0).standard_normal((20, 90)).astype(np.float32)
    lam = 0.5 / COST(9000)
    masks, hits = simulator.read_aware_scan(scores, 30, 9000, COST, lam, "lfu")
    plain = select_read_aware_plainly(scores, 9000, COST, lam, Cache("lfu", 90, 30))
    np.testing.assert_array_equal(simulator.unpack(plain.packed, 90), masks)
    np.testing.assert_array_equal(plain.hits, hits)


def test_hits_are_those_of_the_masks() -> None:
    scores = np.abs(np.random.default_rng(0).standard_normal((60, 300))).astype(np.float32)
    lam = 0.5 / PHONE(9000)
    for policy in ("lfu", "lru"):
        masks, hits = simulator.read_aware_scan(scores, 120, 9000, PHONE, lam, policy)
        np.testing.assert_array_equal(hits, simulator.simulate(masks, 120, policy))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8])
def test_a_density_can_be_met(density: float) -> None:
    rng = np.random.default_rng(0)
    sessions = [np.abs(rng.standard_normal((20, 256))).astype(np.float32) for _ in range(2)]
    for capacity in (0, 64):
        lam = lam_for_density(sessions, density, 18546, COST, capacity=capacity)
        used = [simulator.read_aware_scan(s, capacity, 18546, COST, lam)[0] for s in sessions]
        assert np.mean(used) == pytest.approx(density, abs=0.01)


def test_a_density_beyond_free_reads_has_no_price() -> None:
    scores = np.zeros((3, 9), np.float32)
    scores[:, 0] = 1
    assert lam_for_density([scores], 0.5, 1000, COST) == 0


SCORES = np.ones((2, 3), np.float32)
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "lam": (lambda: simulator.read_aware(SCORES, 1, COST, -1), "lam is -1"),
    "infinite lam": (lambda: simulator.read_aware(SCORES, 1, COST, np.inf), "lam is inf"),
    "nan": (
        lambda: simulator.read_aware(np.array([[1, np.nan]], np.float32), 1, COST, 1),
        "score of unit 1 of token 0 is nan",
    ),
    "infinite": (
        lambda: simulator.read_aware(np.array([[1, np.inf]], np.float32), 1, COST, 1),
        "scores must be finite",
    ),
    "float64": (lambda: simulator.read_aware(SCORES.astype(float), 1, COST, 1), "must be float32"),  # type: ignore[arg-type]
    "resident": (
        lambda: simulator.read_aware(SCORES, 1, COST, 1, np.ones(2, np.bool_)),
        "resident is bool of shape",
    ),
    "no size": (lambda: simulator.read_aware(SCORES, 0, COST, 1), "unit_bytes is 0"),
    "policy": (
        lambda: simulator.read_aware_scan(SCORES, 1, 1, COST, 1, "slru"),
        "policy for read-aware selection 'slru'",
    ),
    "capacity": (lambda: simulator.read_aware_scan(SCORES, -1, 1, COST, 1), "capacity is -1"),
    "density": (lambda: lam_for_density([SCORES], 0, 1, COST), "density is 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_error(case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(SimulatorError, match=words):
        call()
