"""What a cell decides: walked by speed, against a plain form of the rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from sweep.certainty.bounds import Bounds
from sweep.certainty.decide import Candidate, Outcome, outcome, verdict

LIMIT = 1.0
WITHIN, BEYOND = Bounds(0.5, 0.4, 0.6, 8), Bounds(2.0, 1.5, 2.5, 8)
NEAR_IN, NEAR_OUT = Bounds(0.9, 0.5, 1.5, 8), Bounds(1.1, 0.5, 1.5, 8)
LAST = Bounds(0.95, 0.5, 1.5, 64, ended=True)
KINDS = {"w": WITHIN, "b": BEYOND, "i": NEAR_IN, "o": NEAR_OUT, "e": LAST}


def came(written: str, speeds: Mapping[int, float] | None = None, spare: bool = True) -> Outcome:
    """Of candidates from the fastest on, each a letter of KINDS."""
    members = [
        Candidate(str(i), (speeds or {}).get(i, 100.0 - i), (i, kind))
        for i, kind in enumerate(written)
    ]
    return outcome(members, LIMIT, _bounds, lambda s, _: not _bounds(s).ended, spare)


def _bounds(statistic: Hashable) -> Bounds:
    return KINDS[statistic[1]]  # type: ignore[index]


def names(candidates: tuple[Candidate, ...]) -> str:
    return "".join(c.name for c in candidates)


def test_the_fastest_within_is_the_choice_once_all_faster_ones_are_beyond() -> None:
    outcome = came("bbwiw")
    assert outcome.decided
    assert outcome.choice is not None
    assert outcome.choice.name == "2"
    assert not outcome.wanted


def test_slower_candidates_need_nothing() -> None:
    assert came("wiooe").decided


def test_a_cell_in_which_nothing_can_be_within_is_decided_without_a_choice() -> None:
    outcome = came("bbb")
    assert outcome.decided
    assert outcome.choice is None
    assert outcome.estimated is None


def test_open_candidates_above_the_choice_keep_it_open() -> None:
    outcome = came("boiw")
    assert not outcome.decided
    assert outcome.choice is not None
    assert outcome.choice.name == "3"
    assert names(outcome.rivals) == "12"
    assert names(outcome.wanted) == "12"
    assert outcome.estimated is not None
    assert outcome.estimated.name == "2"


def test_windows_go_down_to_the_first_whose_estimate_is_within() -> None:
    outcome = came("oioiw")
    assert names(outcome.rivals) == "0123"
    assert names(outcome.wanted) == "01"


def test_where_one_cannot_be_told_windows_go_to_the_next_that_may_be_within() -> None:
    """The cell stays open; which of the slower ones is surely within can still be found out."""
    outcome = came("oeoiw")
    assert not outcome.decided
    assert names(outcome.wanted) == "3"
    assert came("oeow").ended
    assert came("e").ended
    assert not came("e").decided


def test_without_sparing_what_cannot_be_told_takes_no_windows_from_the_others() -> None:
    assert names(came("oeoiw", spare=False).wanted) == "023"
    assert names(came("oioiw", spare=False).wanted) == "01"
    assert names(came("oeow", spare=False).wanted) == "02"
    assert came("e", spare=False).ended


def test_an_open_one_that_is_no_faster_is_no_rival() -> None:
    assert came("iw", {0: 10.0, 1: 10.0}).decided
    assert not came("iw", {0: 10.1, 1: 10.0}).decided


def test_bounds_on_both_sides_of_a_limit_tell_nothing() -> None:
    assert verdict(Bounds(1.0, low=1.1, high=0.9, windows=8), LIMIT) == "open"
    assert verdict(WITHIN, LIMIT) == "within"
    assert verdict(BEYOND, LIMIT) == "beyond"
    assert verdict(Bounds(1.0, 1.0, 1.0, 0, True), LIMIT) == "within"


def test_no_candidate_is_decided() -> None:
    assert came("").decided


@given(st.text("wbioe", max_size=9), st.booleans())
def test_a_decision_is_right_whenever_bounds_are(written: str, spare: bool) -> None:
    """The truth of an open one may be on either side: a decided cell names the fastest within in
    both worlds, an open one in one of them not."""
    outcome = came(written, spare=spare)
    worlds = [_fastest_within(written, open_is) for open_is in (True, False)]
    choice = None if outcome.choice is None else int(outcome.choice.name)
    assert choice == worlds[1]
    assert outcome.decided == (worlds[0] == worlds[1])
    assert not (outcome.decided and outcome.wanted)


def _fastest_within(written: str, open_is: bool) -> int | None:
    inside = {"w": True, "b": False, "i": open_is, "o": open_is, "e": open_is}
    return next((i for i, kind in enumerate(written) if inside[kind]), None)
