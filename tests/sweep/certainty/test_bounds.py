"""Bounds that hold at every look, and how many windows would bring one to its side of a limit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweep.certainty.bounds import (
    Bounds,
    bounds,
    delta_ends,
    has_hope,
    known,
    mean_ends,
    ratio_ends,
    windows_needed,
)
from sweep.certainty.looks import Levels, levels, planned_looks
from sweep.results.perplexity import Losses, delta_interval, mean_interval, ratio_interval


def made(windows: int, mean: float, spread: float, seed: int = 0) -> tuple[Losses, Losses]:
    """Losses of a candidate and of the dense model, 100 predicted tokens a window."""
    rng = np.random.default_rng(seed)
    predicted, base = np.full(windows, 100.0), 3 + 0.3 * rng.standard_normal(windows)
    differences = mean + spread * rng.standard_normal(windows)
    return Losses((base + differences) * 100, predicted), Losses(base * 100, predicted)


def test_ends_are_those_of_the_table_at_another_confidence() -> None:
    losses, dense = made(12, 0.02, 0.01)
    low, high = ratio_ends(losses, dense)(12, 0.95)
    assert (low + 1, high + 1) == pytest.approx(ratio_interval(losses, dense))
    assert delta_ends(losses, dense)(12, 0.95) == delta_interval(losses, dense)
    assert mean_ends(losses)(12, 0.95) == mean_interval(losses)
    wider = ratio_ends(losses, dense)(12, 0.999)
    assert wider[0] < low < high < wider[1]


def test_fewer_windows_are_the_first_of_them() -> None:
    losses, dense = made(12, 0.02, 0.01)
    part = Losses(losses.nll[:5], losses.predicted[:5]), Losses(dense.nll[:5], dense.predicted[:5])
    low, high = ratio_interval(*part, 0.99)
    assert ratio_ends(losses, dense)(5, 0.99) == (low - 1, high - 1)


def test_the_narrowest_bound_of_all_looks_stays() -> None:
    ends = {4: (0.1, 0.3), 8: (0.0, 0.25), 16: (0.05, 0.4)}
    spent = [Levels(0.01, 0.01)] * 3
    seen = bounds(0.2, lambda windows, _: ends[windows], (4, 8, 16), spent, 3)
    assert (seen.low, seen.high, seen.windows, seen.ended) == (0.1, 0.25, 16, True)
    assert not bounds(0.2, lambda windows, _: ends[windows], (4, 8, 16), spent, 2).ended


def test_each_side_has_its_own_level() -> None:
    asked: list[float] = []

    def ends(_windows: int, confidence: float) -> tuple[float, float]:
        asked.append(confidence)
        return 0.0, 1.0

    bounds(0.5, ends, (4,), [Levels(within=0.01, beyond=0.04)], 1)
    assert asked == pytest.approx([0.92, 0.98])


def test_one_window_bounds_nothing() -> None:
    losses, dense = made(1, 0.02, 0.01)
    seen = bounds(0.02, ratio_ends(losses, dense), (1, 2), [Levels(0.1, 0.1)] * 2, 1)
    assert (seen.low, seen.high) == (-math.inf, math.inf)


def test_what_is_known_has_both_bounds() -> None:
    assert known(0.0) == Bounds(0.0, 0.0, 0.0, 0, True)
    assert known(1.0, 3.0) == Bounds(2.0, 1.0, 3.0, 0, True)


def test_so_many_windows_as_are_needed_do_bound_it() -> None:
    """Drawn with the very mean and spread of the first windows, the answer is on the limit."""
    looks = planned_looks(4, 64)
    level = levels(0.05, 10, 4, looks)[-1]
    few, dense = made(16, 0.03, 0.02, seed=4)
    ends = delta_ends(few, dense)
    seen = bounds(few.perplexity - dense.perplexity, ends, looks, levels(0.05, 10, 4, looks), 3)
    limit = seen.estimate * 1.3
    needed = windows_needed(seen, ends, limit, level)
    assert 16 < needed < 1000
    repeats = math.ceil(needed / 16)
    many = [Losses(np.tile(x.nll, repeats), np.tile(x.predicted, repeats)) for x in (few, dense)]
    _, high = delta_interval(many[0], many[1], 1 - 2 * level.within)
    assert high <= limit


def test_on_the_limit_no_number_of_windows_is_enough() -> None:
    losses, dense = made(16, 0.03, 0.02)
    ends = ratio_ends(losses, dense)
    seen = Bounds(estimate=0.05, low=0, high=1, windows=16)
    assert windows_needed(seen, ends, 0.05, Levels(0.001, 0.001)) == math.inf


def test_hope_ends_where_the_text_is_far_too_short() -> None:
    losses, dense = made(32, 0.03, 0.02)
    looks = (4, 8, 16, 32, 64)
    spent, ends = levels(0.05, 10, 4, looks), ratio_ends(losses, dense)
    estimate = losses.perplexity / dense.perplexity - 1
    seen = bounds(estimate, ends, looks, spent, 4)
    assert has_hope(seen, ends, estimate + 0.02, spent, looks)
    assert not has_hope(seen, ends, estimate + 1e-5, spent, looks)
    few = (2, *looks)
    begun = levels(0.05, 10, 4, few)
    assert has_hope(bounds(estimate, ends, few, begun, 1), ends, estimate, begun, few)
    assert not has_hope(bounds(estimate, ends, few, begun, 2), ends, estimate, begun, few)
    assert not has_hope(bounds(estimate, ends, looks, spent, 5), ends, estimate, spent, looks)
