"""A cache that holds no unit is no cache: one point for every policy and γ, and it is said so."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from sweep import api
from sweep.plan.grid import expand
from sweep.plan.planner import plan_points
from sweep.plan.sizes import cached_units, uncached_notes, without_cache
from sweep.spec import file as spec

FULL, ROOMY = 0.05, 0.08
SWEEP: dict[str, Any] = {
    "models": ["smollm2-135m"],
    "windows": 2,
    "window_tokens": 64,
    "methods": [
        "dense",
        {"method": "dip", "density": 0.7, "gamma": [0.1, 0.2, 1]},
        {"method": "cats", "density": 0.7},
    ],
    "devices": [{"device": "apple-a18", "dram_gb": [FULL, ROOMY]}],
    "policies": ["lru", "lfu", "belady", "static"],
    "cache": {"start": ["empty", "hot"]},
}


def planned(*points: str, **changes: Any) -> api.SweepPlan:
    body = {**copy.deepcopy(SWEEP), **changes}
    sweep = spec.from_mapping({"sweeps": {"s": body}}).sweeps["s"]
    return api.plan_sweep(sweep, points=points)


def test_all_policies_and_gammas_are_one_point_where_nothing_is_cached() -> None:
    made = planned()
    full = [p for p in made.plan.points if p.point.device.dram_gb == FULL]
    ways = [
        (p.point.method, p.point.selector, p.point.gamma, p.point.policy, p.point.cache_start)
        for p in full
    ]
    assert ways == [
        ("dense", "topk", 1.0, "none", "empty"),
        ("dip", "topk", 1.0, "none", "empty"),
        ("cats", "layer-threshold", 1.0, "none", "empty"),
    ]
    for one in full:
        for key in one.keys:
            task = made.plan.tasks[key]
            assert task.kind != "simulate" or task.payload["policy"] == "none"
            assert task.payload.get("selector", {}).get("name") != "cache-aware"


def test_the_plan_says_where_and_how_many_fell_together() -> None:
    made = planned()
    (fallen,) = [s for s in made.grid.skipped if s.reason.startswith("nothing is cached")]
    # Of dip 4 policies plain, lfu and lru with two γ; of cats 4 policies; two starts.
    asked = 2 * (4 + 2 * 2) + 2 * 4
    assert fallen.points == asked - 2
    (note,) = [n for n in made.plan.notes if n.startswith("nothing is cached")]
    assert note.startswith("nothing is cached for dip, cats on smollm2-135m with 0.05 GB of DRAM")
    assert made.materials.complete or "nothing is cached" not in " ".join(made.materials.notes)


def test_where_something_is_cached_nothing_changes() -> None:
    made = planned(devices=[{"device": "apple-a18", "dram_gb": ROOMY}])
    assert not [s for s in made.grid.skipped if s.reason.startswith("nothing is cached")]
    assert not [n for n in made.plan.notes if n.startswith("nothing is cached")]
    assert {p.point.policy for p in made.plan.points} == {"none", "lru", "lfu", "belady", "static"}


def test_a_cache_of_one_group_alone_is_a_cache() -> None:
    """Slots are whole units: the group of more units may have one where the other has none."""
    whole = planned(methods=[{"method": "dip", "density": 0.7}], policies="lfu")
    point = whole.plan.points[-1].point
    geometry, storage = whole.materials.geometry(point), whole.materials.storage(point)
    sizes = [dict(cached_units(point, geometry, storage))]
    assert all(units > 0 for units in sizes[0].values())
    assert set(cached_units(without_cache(point), geometry, storage).values()) == {0}


def test_a_key_that_a_point_has_with_its_empty_cache_still_names_it() -> None:
    sweep = planned().sweep
    before = next(
        p for p in expand(sweep).points if p.device.dram_gb == FULL and p.selector == "cache-aware"
    )
    (again,) = planned(before.key).plan.points
    assert again.point == without_cache(before)


def test_many_places_are_counted() -> None:
    point = planned().plan.points[1].point

    points = [replace(point, device=replace(point.device, dram_gb=0.001 * i)) for i in range(1, 10)]
    notes = uncached_notes(points, str.upper)
    assert len(notes) == 7
    assert "SMOLLM2-135M" in notes[0]
    assert notes[-1] == "nothing is cached in 3 more"


@pytest.mark.parametrize("gamma", [0.2, 1])
def test_a_study_shares_the_tasks_of_no_cache(gamma: float) -> None:
    """Points that stay as asked, as those of a study, have the tasks of the point without one."""
    made = planned()
    points = [p for p in expand(made.sweep).points if p.method == "dip" and p.gamma == gamma]
    full = (p for p in points if p.device.dram_gb == FULL)
    point = next(p for p in full if p.cache_start == "hot")
    (own,) = plan_points([point], made.materials).points
    assert own.point == point
    without = next(p for p in made.plan.points if p.point == without_cache(point))
    assert own.keys == without.keys
