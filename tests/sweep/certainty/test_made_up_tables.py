"""The rule on made-up tables with known truth: a few of `python -m benchmarks certainty`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.certainty import KINDS, Kind, certified, make


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_tables_are_right_and_take_few_windows(kind: Kind) -> None:
    """Of 2,000 tables 0.3 % were wrong: of the four that are tried here, none is."""
    rng = np.random.default_rng(7)
    came = [certified(make(kind, rng)) for _ in range(4)]
    assert not any(one.wrong for one in came)
    assert np.mean([one.used for one in came]) < 0.5
    assert any(one.decided > 0 for one in came)
    assert sum(one.ties_decided for one in came) == 0


def test_a_tie_at_the_limit_is_in_the_tables_that_have_near_ones() -> None:
    made = make(KINDS[3], np.random.default_rng(0))
    at_limit = [
        candidate
        for budget in made.budgets
        for candidate in range(len(made.means))
        if np.isclose(made.truth(candidate, budget[0]), budget[1])
    ]
    assert len(at_limit) >= len(made.budgets)
