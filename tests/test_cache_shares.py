"""Unequal shares of a cache take the bytes that the equal ones took."""

from __future__ import annotations

import pytest

from benchmarks.cache_shares import shared
from simulator import Geometry, footprint

SIZES = footprint(Geometry.load("phi-3-medium"), ["input", "intermediate"])
ALIKE = {name: group.units * 2 // 5 for name, group in SIZES.groups.items()}


@pytest.mark.parametrize("share", [0.0, 1 / 3, 1.0])
def test_the_bytes_stay(share: float) -> None:
    def taken(slots: dict[str, int]) -> float:
        return sum(count * SIZES.groups[name].unit_bytes for name, count in slots.items())

    largest = max(group.unit_bytes for group in SIZES.groups.values())
    assert abs(taken(shared(SIZES, ALIKE, share)) - taken(ALIKE)) < 2 * largest


def test_what_one_group_cannot_use_goes_to_the_other() -> None:
    units_first = shared(SIZES, ALIKE, 0.0)
    assert units_first["intermediate"] == SIZES.groups["intermediate"].units
    assert 0 < units_first["input"] < ALIKE["input"]
    assert shared(SIZES, ALIKE, 1.0)["intermediate"] == 0


def test_as_they_are() -> None:
    assert shared(SIZES, ALIKE, None) == ALIKE
    assert shared(SIZES, {"neuron": 3}, 0.0) == {"neuron": 3}
