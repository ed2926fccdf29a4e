"""Counts of announced units give the time that the arrays of `preloading` give."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.device import Device
from simulator.errors import SimulatorError
from simulator.prefetch import PrefetchCounts
from simulator.preload import preloading


@pytest.mark.parametrize("device", ["apple-a18", "oneplus-15r"])
def test_the_time_of_preloading(device: str) -> None:
    rng = np.random.default_rng(3)
    used = rng.integers(1, 5, (6, 40))
    announced, demanded = rng.integers(0, 4, (6, 40)), rng.integers(0, 3, (6, 40))
    announced[0] = 0
    place, size = Device.load(device), 3e5
    first = PrefetchCounts.of(used[:, :25], announced[:, :25], demanded[:, :25], 7)
    second = PrefetchCounts.of(used[:, 25:], announced[:, 25:], demanded[:, 25:], 5)
    counts = PrefetchCounts.from_json(first.merge([second]).to_json())
    cost = place.read_cost()
    one = size / (place.flash_gbps * 1e9) if cost is None else cost(size)
    seconds = {
        "announced_seconds": announced.T * one,
        "demanded_seconds": demanded.T * one,
    }
    by_arrays = preloading(
        announced.T * size, used.T * size, demanded.T * size, place, 1, **seconds
    )
    assert counts.seconds(place, size) == pytest.approx(by_arrays.seconds.sum())
    assert counts.announced == announced.sum()
    assert counts.on_demand == demanded.sum()
    assert counts.wasted == 12


def test_nothing_hides_the_first_layer() -> None:
    ones = np.ones((2, 3), np.int64)
    with pytest.raises(SimulatorError, match="layer 0 is not announced"):
        PrefetchCounts.of(ones, ones, ones, 0)
