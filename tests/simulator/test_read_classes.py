"""Reads by narrow classes of size: those of the simulator, and near the exact sum by any table."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator import Device, ReadCost, SimulatorError
from simulator.read_classes import at_cost, merged, octaves, reads_by_class, seconds_of
from simulator.read_plans import reads_by_size
from tests.simulator.plain_reads import File, plan_plainly

PHONE = ReadCost.table([(16384, 0.723), (65536, 1.962), (262144, 2.646), (1048576, 2.806)])
NEAR = 0.005
Masks = NDArray[np.bool_]


def curve(rng: np.random.Generator, low: float, high: float) -> ReadCost:
    """Times that grow with size by any power from 0.02 to 1.05, up to ten turns."""
    sizes = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), rng.integers(2, 11))))
    powers = rng.uniform(0.02, 1.05, sizes.size - 1)
    times = 1e-5 * np.exp(np.concatenate([[0], np.cumsum(powers * np.diff(np.log(sizes)))]))
    return ReadCost.table(zip(sizes.tolist(), (sizes / times / 1e9).tolist(), strict=True))


def runs(rng: np.random.Generator, tokens: int, units: int) -> Masks:
    """Misses in runs of many lengths, more of them in some tokens than in others."""
    turns = rng.random((tokens, units)) < np.exp(rng.uniform(-5, -0.5, (tokens, 1)))
    return (np.cumsum(turns, axis=1) + rng.integers(0, 2, (tokens, 1))) % 2 == 1


def exact(missed: Masks, file: File, planned: ReadCost, cost: ReadCost) -> NDArray[np.float64]:
    """Seconds of each token's reads at another cost, plainly, from the plan by the first."""
    plans = [plan_plainly(row, file, planned) for row in missed.tolist()]
    return np.array([sum(cost(file.cells(*one) * file.cell) for one in plan) for plan in plans])


@pytest.mark.parametrize("align", [1, 4096])
def test_counts_are_those_of_the_simulator(align: int) -> None:
    missed = runs(np.random.default_rng(1), 40, 300)
    columns, rows = reads_by_class(missed, 1600, PHONE, align)
    same, by_power = reads_by_size(missed, 1600, PHONE, align)
    for ours, theirs in zip(columns, same, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert octaves(rows) == by_power
    assert [sum(row[i] for row in rows) for i in (1, 2)] == [columns[0].sum(), columns[1].sum()]
    assert all(a[0] < b[0] for a, b in pairwise(rows))
    halves = [reads_by_class(part, 1600, PHONE, align)[1] for part in (missed[:9], missed[9:])]
    assert merged(halves) == rows
    assert reads_by_class(np.zeros((3, 70), np.bool_), 1600, PHONE)[1] == []


def test_a_law_of_two_numbers_needs_no_classes() -> None:
    with pytest.raises(SimulatorError, match="are for tables"):
        reads_by_class(np.ones((1, 8), np.bool_), 1600, ReadCost(latency_us=5, gbps=1))


@pytest.mark.parametrize("seed", range(60))
def test_another_table_gives_the_exact_sum_within_half_a_per_cent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit, align = float(rng.choice([300.5, 1600, 18546])), int(rng.choice([1, 1, 4096]))
    units = int(rng.integers(60, 260))
    missed, file = runs(rng, 12, units), File(unit, align)
    planned, cost = (curve(rng, unit / 2, unit * units * 1.5) for _ in range(2))
    (count, size, seconds), rows = reads_by_class(missed, unit, planned, align)
    truth = exact(missed, file, planned, cost)
    np.testing.assert_allclose(seconds, exact(missed, file, planned, planned), rtol=1e-9)
    assert seconds_of(rows, cost) == pytest.approx(truth.sum(), rel=NEAR)
    shared = at_cost(count, size, seconds, rows, planned, cost)
    assert shared.sum() == pytest.approx(truth.sum(), rel=NEAR)
    assert (shared >= 0).all()
    np.testing.assert_allclose(
        at_cost(count, size, seconds, rows, planned, planned), seconds, rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize("seed", range(20))
def test_by_a_table_like_the_first_each_phase_is_near_too(seed: int) -> None:
    """As depths of one device are: phases that the group's ratio alone would misjudge by far."""
    phone = dict(Device.load("oneplus-15r").flash)
    rng = np.random.default_rng(seed)
    missed = runs(rng, 12, 400)
    (count, size, seconds), rows = reads_by_class(missed, 4096, phone[8])
    truth = exact(missed, File(4096, 1), phone[8], phone[1])
    some = truth > 0
    shared = at_cost(count, size, seconds, rows, phone[8], phone[1])
    ratio = truth.sum() / seconds.sum()
    off = np.abs(shared[some] / truth[some] - 1)
    assert off.max() < 0.1
    assert np.median(off) < np.median(np.abs(seconds[some] * ratio / truth[some] - 1)) / 3


def test_the_sharpest_turn_stays_within_the_bound() -> None:
    """All reads in one class, half at each end, and a table that turns between from no time for a
    byte more to all of it."""
    ends = (2.0**20, 2.0 ** (20 + 0.999 / 64))
    middle = sum(ends) / 2
    times = ((middle / 8, 1e-3), (middle, 1.000001e-3), (middle * 8, 8.000008e-3))
    cost = ReadCost.table([(size, size / time / 1e9) for size, time in times])
    truth = sum(cost(end) for end in ends)
    off = truth / seconds_of([[64 * 20, 2, sum(ends)]], cost) - 1
    assert 0.002 < off < 0.003
