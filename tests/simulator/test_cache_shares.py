"""Unequal shares of a cache take the bytes that the equal ones took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from simulator import Geometry, SimulatorError, footprint
from simulator.cache_shares import Shares, shared_slots, shares_of, told, weights
from simulator.footprint import Footprint, GroupSize

PAIR = ("input", "intermediate")
SIZES = footprint(Geometry.load("phi-3-medium"), PAIR)
ALIKE = {name: group.units * 2 // 5 for name, group in SIZES.groups.items()}


def shared(written: Any) -> dict[str, int]:
    return shared_slots(SIZES, ALIKE, shares_of(written, PAIR))


def taken(sizes: Footprint, slots: Mapping[str, int]) -> float:
    return sum(n * sizes.groups[g].unit_bytes * sizes.groups[g].layers for g, n in slots.items())


def test_what_is_written_is_a_share_of_each_group() -> None:
    assert shares_of("by-bytes", PAIR) == ()
    assert shares_of("equal", PAIR) == shares_of(0.5, PAIR) == (("input", 0.5), (PAIR[1], 0.5))
    ways = (0.3, {"input": 0.3}, {"intermediate": 0.7}, {"intermediate": 0.7, "input": 0.3})
    assert {shares_of(way, PAIR) for way in ways} == {(("input", 0.3), ("intermediate", 0.7))}
    assert told(shares_of(0.3, PAIR)) == "input 0.3, intermediate 0.7"
    assert told(()) == ""


def test_one_group_has_nothing_to_share() -> None:
    assert shares_of(0.3, ("intermediate",)) == ()
    assert shares_of({"input": 1.0}, ("neuron",)) == ()
    assert shares_of("equal", ()) == ()


def test_a_number_is_shared_by_all_groups_of_inputs() -> None:
    groups = ("up-input", "gate-input", "intermediate")
    assert dict(shares_of(0.3, groups)) == {
        "up-input": 0.15,
        "gate-input": 0.15,
        "intermediate": 0.7,
    }


@pytest.mark.parametrize(
    ("written", "groups", "words"),
    [
        ({"neuron": 0.3}, PAIR, "cache_shares of neuron, and the groups are input, intermediate"),
        ({"input": 0.3, "intermediate": 0.3}, PAIR, "are 1 together"),
        ({"input": 0.8, "intermediate": 0.3}, (*PAIR, "attn-input"), "are 1 together"),
        (0.3, ("glu-neuron", "intermediate"), "is a share for inputs"),
    ],
)
def test_what_is_no_share_of_the_groups_is_said(
    written: Any, groups: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SimulatorError, match=words):
        shares_of(written, groups)


@pytest.mark.parametrize("share", [0, 1 / 3, 1])
def test_the_bytes_stay(share: float) -> None:
    largest = max(group.unit_bytes * group.layers for group in SIZES.groups.values())
    assert abs(taken(SIZES, shared(share)) - taken(SIZES, ALIKE)) < 2 * largest


def test_what_one_group_cannot_use_goes_to_the_other() -> None:
    units_first = shared(0)
    assert units_first["intermediate"] == SIZES.groups["intermediate"].units
    assert 0 < units_first["input"] < ALIKE["input"]
    assert shared(1)["intermediate"] == 0


def test_by_bytes_is_as_it_was() -> None:
    assert shared("by-bytes") == ALIKE
    whole = {name: group.units for name, group in SIZES.groups.items()}
    assert shared_slots(SIZES, whole, shares_of(0.9, PAIR)) == whole


def test_what_nobody_names_is_shared_by_bytes() -> None:
    sizes = Footprint(
        0, {"a": GroupSize(10, 4, 2), "b": GroupSize(10, 2, 2), "c": GroupSize(5, 8, 2)}
    )
    shares: Shares = (("c", 0.5),)
    assert weights(sizes, shares) == {
        "a": pytest.approx(1 / 3),
        "b": pytest.approx(1 / 6),
        "c": 0.5,
    }
    assert shared_slots(sizes, {"a": 3, "b": 3, "c": 2}, shares) == {"a": 2, "b": 2, "c": 2}


def test_no_share_of_any_cache_is_more_than_its_group_nor_more_than_was_there() -> None:
    rng = np.random.default_rng(5)
    for _ in range(500):
        names = ["a", "b", "c", "d"][: rng.integers(2, 5)]
        groups = {
            n: GroupSize(
                int(rng.integers(1, 50)), float(rng.uniform(0.5, 9)), int(rng.integers(1, 4))
            )
            for n in names
        }
        sizes = Footprint(0, groups)
        slots = {n: int(rng.integers(0, g.units + 1)) for n, g in groups.items()}
        written = rng.dirichlet(np.ones(len(names))) * (rng.random(len(names)) < 0.7)
        share = dict(zip(names, (written / max(written.sum(), 1e-9)).tolist(), strict=True))
        shares = tuple(share.items()) if written.sum() else ()
        after = shared_slots(sizes, slots, shares)
        assert all(0 <= after[n] <= g.units for n, g in groups.items())
        assert taken(sizes, after) <= taken(sizes, slots) * (1 + 1e-9) + 1e-6
        unit = sum(g.unit_bytes * g.layers for g in groups.values())
        assert taken(sizes, after) > taken(sizes, slots) - unit
