"""Policies of inference engines: each kernel equals its plain twin, and each means what it says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from numpy.typing import NDArray

import simulator
from simulator import SimulatorError, contract, engine_policies, policies
from tests.simulator.cases import Case, cases, many

COLD = ("window-1", "window-2", "window-5", "window-9", "lfu-admit", "lfru", "slru")
ALL = (*COLD, "hot-set")


def of(case: Case, policy: str) -> list[int]:
    return simulator.simulate(case.masks, case.capacity, policy, case.start).tolist()


def rows(*used: str, units: int = 10) -> NDArray[np.bool_]:
    """Masks of tokens that use the units written as digits."""
    masks = np.zeros((len(used), units), dtype=bool)
    for row, digits in zip(masks, used, strict=True):
        row[[int(digit) for digit in digits]] = True
    return masks


def contents(policy: str, capacity: int, *used: str, start: list[int] | None = None) -> list[str]:
    """What the plain twin caches after each token, as digits."""
    session = contract.Session(rows(*used), capacity, start)
    return ["".join(map(str, sorted(step.after))) for step in contract.steps(policy, session)]


# -- kernels equal their twins ---------------------------------------------------------------


def check(case: Case) -> None:
    masks, start = case.masks, case.start
    for policy in ALL if case.hot else COLD:
        fast = simulator.simulate(masks, case.capacity, policy, start)
        slow = policies.simulate_plainly(masks, case.capacity, policy, start)
        assert fast.dtype == np.int64
        np.testing.assert_array_equal(fast, slow, err_msg=policy)


@given(cases(most_units=130))
@example(Case(seed=0, tokens=5, units=1, kind="all", capacity=0, hot=False))
@example(Case(seed=0, tokens=5, units=130, kind="half", capacity=133, hot=True))
@many(1500)
def test_every_kernel_equals_its_plain_twin(case: Case) -> None:
    check(case)


@given(cases(most_units=40, most_tokens=50))
@many(300)
def test_in_longer_sessions_too(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(cases(most_tokens=40))
@many(15000)
def test_at_length(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("units", [576, 1536, 5120])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_at_real_sizes(units: int, share: float) -> None:
    rng = np.random.default_rng(units)
    masks = rng.random((60, units)) < share * 2 * rng.random(units)
    for policy in COLD:
        for capacity in (units // 10, units // 3, units // 2):
            fast = simulator.simulate(masks, capacity, policy)
            slow = policies.simulate_plainly(masks, capacity, policy)
            np.testing.assert_array_equal(fast, slow, err_msg=policy)


def test_simulating_changes_no_argument() -> None:
    masks, start = rows("012", "345", "012"), np.arange(10, dtype=np.uint32)[::-1].copy()
    before = masks.copy(), start.copy()
    for policy in ALL:
        simulator.simulate(masks, 4, policy, start)
    np.testing.assert_array_equal(masks, before[0])
    np.testing.assert_array_equal(start, before[1])


# -- window ----------------------------------------------------------------------------------


def test_a_window_keeps_what_the_last_tokens_used_and_no_more() -> None:
    used = ("01", "12", "3", "", "", "")
    assert contents("window-1", 9, *used) == ["01", "12", "3", "", "", ""]
    assert contents("window-2", 9, *used) == ["01", "012", "123", "3", "", ""]
    assert contents("window-5", 9, *used) == ["01", "012", "0123", "0123", "0123", "123"]
    assert contents("window-2", 2, *used) == ["01", "12", "13", "3", "", ""]


def test_units_of_a_hot_start_count_as_used_just_before_it() -> None:
    start = [*range(10)]
    assert contents("window-1", 3, "9", "", start=start) == ["9", ""]
    assert contents("window-3", 3, "", "", "", start=start) == ["012", "012", ""]


@given(cases(most_units=60, most_tokens=20))
@many(150)
def test_a_window_longer_than_the_session_is_lru(case: Case) -> None:
    assert of(case, "window-999999999") == of(case, "lru")


@given(cases(most_units=60, most_tokens=20))
@many(150)
def test_a_longer_window_never_hits_less(case: Case) -> None:
    hits = [of(case, f"window-{k}") for k in (1, 2, 5, 20)]
    assert hits == sorted(hits)
    for shorter, longer in pairwise(hits):
        assert all(a <= b for a, b in zip(shorter, longer, strict=True))


def test_a_window_has_any_number() -> None:
    kind = policies.policy_class("window-8")
    assert kind is policies.policy_class("window-8")
    assert (kind.name, kind.__module__) == ("window-8", "simulator.engine_policies")
    assert policies.policy_class("window-5") is engine_policies.Window
    assert "window-8" not in policies.POLICIES
    assert policies.policy_summary("window-8") == policies.policy_summary("window-5")


NO_POLICIES = (
    "window",
    "window-",
    "window-0",
    "window-05",
    "window--2",
    "window-1.5",
    "lru-5",
    "-3",
)


@pytest.mark.parametrize("name", NO_POLICIES)
def test_what_is_no_number_is_no_policy(name: str) -> None:
    with pytest.raises(SimulatorError, match="unknown policy"):
        simulator.simulate(rows("1"), 2, name)


# -- counts ----------------------------------------------------------------------------------


def test_a_newcomer_is_admitted_only_if_it_has_more_uses() -> None:
    used = ("01", "01", "2", "2", "2", "3")
    assert contents("lfu-admit", 2, *used) == ["01", "01", "01", "01", "02", "02"]
    assert contents("lfu", 2, *used) == ["01", "01", "02", "02", "02", "23"]


@given(cases(most_units=60, most_tokens=20))
@many(150)
def test_admission_refuses_nothing_where_all_fits(case: Case) -> None:
    roomy = Case(case.seed, case.tokens, case.units, case.kind, case.units, case.hot)
    assert of(roomy, "lfu-admit") == of(roomy, "lfu") == of(roomy, "lfru")


def test_frequency_over_age_forgets_what_lfu_keeps() -> None:
    used = ("0", "0", "0", "1", "1", "1", "2")  # at the end 0 has 3 uses, 5 tokens old; 1 has 3, 2
    assert contents("lfru", 2, *used)[-1] == "12"
    used = ("0", "0", "0", "0", "1", "1", "2")  # 4 uses, 4 old, against 2 uses, 2 old: a tie
    assert contents("lfru", 2, *used)[-1] == contents("lfu", 2, *used)[-1] == "02"
    used = ("0", "0", "0", "", "", "", "", "1", "2")  # 3 uses, 7 old; lfu would keep 0
    assert contents("lfru", 2, *used)[-1] == "12"
    assert contents("lfu", 2, *used)[-1] == "02"


def test_quotients_are_told_apart_by_their_floats() -> None:
    """Of neighbours among quotients of numbers near the longest session that is promised."""
    most = 2**25 - 1
    for uses, age in ((most - 1, most), (most // 2, most), (most - 2, most - 1)):
        assert uses / age != (uses - 1) / (age - 1)
        assert (uses / age > (uses - 1) / (age - 1)) == (uses * (age - 1) > (uses - 1) * age)


# -- segments --------------------------------------------------------------------------------


def test_what_was_used_again_survives_a_scan() -> None:
    used = ("01", "01", "2345", "6789", "01")
    assert contents("slru", 3, *used)[1:4] == ["01", "012", "016"]
    assert contents("lru", 3, *used)[1:4] == ["01", "234", "678"]


def test_the_least_recent_protected_unit_goes_on_probation() -> None:
    used = ("0123", "0", "1", "2", "3", "45")  # room for 4 of 5 slots to be protected
    assert contents("slru", 5, *used) == ["0123", "0123", "0123", "0123", "0123", "01234"]
    used = ("01234", "01", "23", "4", "56", "789")
    assert contents("slru", 5, *used)[3:] == ["01234", "02345", "02347"]


def test_a_token_may_find_more_than_is_protected() -> None:
    used = ("01234", "01234", "56789", "01234")
    assert contents("slru", 5, *used)[2:] == ["01235", "01234"]


def test_the_first_of_a_hot_start_are_protected() -> None:
    start = [*range(10)]
    assert contents("slru", 5, "56", "78", start=start) == ["01235", "01237"]


# -- the hot set -----------------------------------------------------------------------------


def test_the_hot_set_is_what_it_starts_with() -> None:
    start = [7, 3, 1, 0, 2, 4, 5, 6, 8, 9]
    assert contents("hot-set", 3, "01", "73", start=start) == ["137", "137"]
    assert simulator.simulate(rows("01", "73"), 3, "hot-set", start).tolist() == [1, 2]
    with pytest.raises(SimulatorError, match="policy 'hot-set' needs a start"):
        simulator.simulate(rows("01"), 3, "hot-set")


def test_it_asks_for_an_order_of_its_own() -> None:
    by_use = {name for name in policies.POLICIES if policies.policy_class(name).start_by == "use"}
    assert by_use == {"hot-set"}


# -- what holds for all ----------------------------------------------------------------------


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("policy", ["window-1", "window-2", "window-14"])
def test_windows_of_other_lengths_keep_every_rule(policy: str, rule: contract.Rule) -> None:
    rule(policy)


@pytest.mark.parametrize("policy", COLD)
def test_no_cache_aware_selection_and_no_state(policy: str) -> None:
    scores = np.ones((2, 9), np.float32)
    with pytest.raises(SimulatorError, match=f"policy for cache-aware selection '{policy}'"):
        simulator.cache_aware(scores, 3, 3, 0.5, policy)
    with pytest.raises(SimulatorError, match=f"'{policy}' has no kernel"):
        simulator.new_state(9, 3, policy)


def test_above_one_all_that_admit_what_is_used_coincide() -> None:
    """The law behind the column `asked_above_slots`."""
    case = Case(seed=3, tokens=40, units=64, kind="dense", capacity=20, hot=False)
    assert case.masks.sum(axis=1).min() > 20
    hits = {policy: sum(of(case, policy)) for policy in ("lfu", "lfru", "window-5", "lru")}
    assert hits["lfu"] == hits["lfru"]
    assert hits["lru"] == hits["window-5"]
