"""One point again: by its key, with the tasks that it had in the whole sweep."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sweep import api
from sweep.errors import InputError
from sweep.plan import grid
from sweep.plan.grid import Grid
from sweep.spec import file as spec

SWEEP: dict[str, Any] = {
    "models": ["smollm2-135m"],
    "windows": 2,
    "window_tokens": 64,
    "methods": [
        "dense",
        {"method": ["up", "dip"], "density": [0.5, 0.7]},
        {"method": "dip", "density": 0.7, "gamma": 0.2},
    ],
    "devices": [{"device": "apple-a18", "dram_gb": [0.06, 0.07]}],
    "policies": ["lfu", "belady"],
}


def planned(*points: str) -> api.SweepPlan:
    sweep = spec.from_mapping({"sweeps": {"s": copy.deepcopy(SWEEP)}}).sweeps["s"]
    return api.plan_sweep(sweep, points=points)


def test_a_point_has_the_tasks_that_it_had() -> None:
    whole = planned()
    for one in whole.plan.points[:: max(1, len(whole.plan.points) // 7)]:
        (again,) = planned(one.point.key).plan.points
        assert again.point.key == one.point.key
        assert again.keys == one.keys


def test_first_digits_are_enough_and_the_order_is_that_of_asking() -> None:
    keys = [p.key for p in planned().grid.points][:2]
    chosen = planned(keys[1], keys[0][:12], keys[1][:12]).grid.points
    assert [p.key for p in chosen] == [keys[1], keys[0]]


def test_no_key_asks_for_all() -> None:
    whole = planned().grid
    assert grid.only(whole, ()) is whole


@pytest.mark.parametrize(("key", "text"), [("zz", "is no point's key"), ("", "is no point's key")])
def test_a_key_of_no_point(key: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        planned(key)


def test_digits_that_begin_several_keys() -> None:
    found = planned().grid
    twice = Grid((found.points[0], found.points[0]), ())
    with pytest.raises(InputError, match="begins the keys of 2 points"):
        grid.only(twice, (found.points[0].key[:4],))
