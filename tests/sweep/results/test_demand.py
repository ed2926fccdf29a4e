"""What tokens ask of caches: by hand, and where there is no cache."""

from __future__ import annotations

import numpy as np
import pytest

from simulator import phase_counts, uniform_reads
from sweep.results import demand

NONE = {"asked_per_slot": None, "asked_above_slots": None}


def test_the_mean_and_the_share_above_one() -> None:
    used = {"input": np.array([[2, 4], [6, 8]]), "intermediate": np.array([[1, 1], [1, 9]])}
    phases = {group: phase_counts(asked, asked) for group, asked in used.items()}
    found = demand.columns(phases, {"input": 4, "intermediate": 2})
    by_hand = [2 / 4, 4 / 4, 6 / 4, 8 / 4, 1 / 2, 1 / 2, 1 / 2, 9 / 2]
    assert found["asked_per_slot"] == pytest.approx(np.mean(by_hand))
    assert found["asked_above_slots"] == np.mean(np.array(by_hand) > 1)


def test_a_hypothetical_read_counts_as_it_is() -> None:
    phases = {"input": uniform_reads(0.5, 0.2, units=100, layers=3)}
    assert demand.columns(phases, {"input": 40}) == {"asked_per_slot": 1.25, "asked_above_slots": 1}
    assert demand.columns(phases, {"input": 50}) == {"asked_per_slot": 1, "asked_above_slots": 0}


def test_without_a_cache_or_a_group_there_is_none() -> None:
    phases = {"input": phase_counts([3, 4], [3, 4])}
    assert demand.columns({}, {}) == NONE
    assert demand.columns(phases, {"input": 0}) == NONE
