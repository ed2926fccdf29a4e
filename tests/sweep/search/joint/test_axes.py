"""The axes of a sweep's points: all that they differ in, and every point can be chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from sweep.errors import InputError
from sweep.plan.grid import expand
from sweep.plan.point import Point
from sweep.search.joint.axes import PRICED, Axes, coordinates
from sweep.search.joint.listed import _first
from sweep.spec import file as spec
from tests.sweep import made_up

MIXED: list[Any] = [
    {"method": "dip", "density": [0.6, 0.7, 0.75], "gamma": [0.05, 0.2, 1],
     "allocation": ["paper", "uniform"]},
    {"method": "dip", "density": [0.56, 0.62], "selector": "resident-threshold",
     "policies": ["lfu", "lfu-admit"]},
    {"method": "dip-shares", "density": [0.6, 0.8], "shares": ["uniform", "group-sensitivity"],
     "chunk": [1, 2]},
    {"method": "up", "density": [0.6, 0.9], "policies": ["lfu", "lru"]},
]  # fmt: skip


def points_of(methods: list[Any], **sweep: Any) -> list[Point]:
    file = spec.from_mapping(made_up.sweep_file(methods=methods, **sweep))
    return list(expand(spec.select(file, "a")).points)


def test_every_point_of_a_mixed_sweep_can_be_chosen():
    points = points_of(MIXED)
    axes = Axes.of(points)
    assert len(points) == 18 + 4 + 8 + 4
    for place, point in enumerate(points):
        choice = axes.choice(place)
        assert choice.keys() == axes.space.keys()
        assert all(choice[name] in axes.space[name].values for name in choice)  # type: ignore[union-attr]
        assert axes.point(choice) is point


def test_axes_are_what_points_differ_in_names_first():
    axes = Axes.of(points_of(MIXED))
    assert list(axes.values) == [
        *("method", "selector", "policy", "allocation", "shares"),
        *("density", "gamma", "chunk"),
    ]
    assert axes.values["selector"].values == ("topk", "resident-threshold")
    assert axes.values["density"].values == (0.56, 0.6, 0.62, 0.7, 0.75, 0.8, 0.9)
    assert axes.space["density"].values == tuple(range(7))  # type: ignore[union-attr]
    assert axes.space["method"].values == ("dip", "dip-shares", "up")  # type: ignore[union-attr]


def test_an_axis_that_another_one_decides_is_left_out():
    points = points_of([
        {"method": "dip", "density": [0.6, 0.7], "policies": "lfu"},
        {"method": "up", "density": [0.6, 0.7], "policies": "lru"},
    ])  # fmt: skip
    assert list(Axes.of(points).values) == ["method", "density"]


def test_what_is_not_listed_leads_to_the_nearest_point():
    axes = Axes.of(points_of(MIXED))
    wanted = {"method": "dip", "selector": "resident-threshold", "policy": "lru",
              "allocation": "uniform", "shares": "uniform", "density": 0.7, "gamma": 0.2,
              "chunk": 2}  # fmt: skip
    point = axes.points[axes.nearest(wanted)]
    assert (point.selector, point.policy, point.density) == ("resident-threshold", "lfu", 0.62)
    assert (point.gamma, point.chunk) == (1, 1)


def test_what_is_near_is_a_step_away_on_one_axis():
    axes = Axes.of(points_of(MIXED))
    place = next(
        place
        for place, row in enumerate(axes.rows)
        if (row["method"], row["density"], row.get("gamma"), row.get("allocation"))
        == ("dip", 0.7, 0.2, "paper")
    )
    near = [axes.points[other] for other in axes.near(place)]
    own = axes.points[place]
    assert own not in near
    assert len(near) == len({point.key for point in near})
    steps = [p for p in near if p.method == "dip" and p.selector in ("topk", "cache-aware")]
    told = {(p.density, p.gamma, dict(p.parameters)["allocation"]) for p in steps}
    assert told == {
        *((0.6, 0.2, "paper"), (0.75, 0.2, "paper")),
        *((0.7, 0.05, "paper"), (0.7, 1, "paper"), (0.7, 0.2, "uniform")),
    }
    assert {p.method for p in near} == {"dip", "dip-shares", "up"}


def test_a_price_of_reads_stands_beside_densities():
    methods = [{"method": "dip", "density": [0.6, 0.8], "selector": "read-aware"},
               {"method": "dip", "lam": [1, 10, 100], "selector": "read-aware"}]  # fmt: skip
    device = {"device": "oneplus-15r", "dram_gb": 0.064}
    points = points_of(methods, devices=[device])
    axes = Axes.of(points)
    assert set(axes.values) == {PRICED, "density", "lam"}
    assert [axes.point(axes.choice(i)) for i in range(len(points))] == points
    chosen = axes.point({PRICED: "lam", "density": 0, "lam": 1})
    assert chosen.lam == 10


def test_quantisations_are_axes_too():
    quant = [{"method": ["rtn", "gptq"], "bits": [3, 4], "group_size": [64, 128]}]
    points = points_of([{"method": "dip", "density": [0.6, 0.8]}], quant=quant)
    axes = Axes.of(points)
    assert set(axes.values) == {"quant", "bits", "quant group_size", "density"}
    assert [axes.point(axes.choice(i)) for i in range(len(points))] == points


def test_any_field_that_points_differ_in_is_an_axis():
    """So an axis that a sweep learns to list needs no line here."""
    one = points_of([{"method": "dip", "density": 0.6}])[0]
    pair = [replace(one, layout=layout) for layout in ("natural", "hot")]
    axes = Axes.of(pair)
    assert {k: v.values for k, v in axes.values.items()} == {"layout": ("natural", "hot")}
    fields = coordinates(one)
    assert {"layout", "pool", "preload_layers", "chunk", "allocation"} <= fields.keys()
    assert not {"device", "accuracy", "sweep", "cache_start"} & fields.keys()


def test_a_value_that_is_no_number_is_text():
    one = points_of([{"method": "dip", "density": 0.6}])[0]
    pair = [replace(one, layout=cast("str", value)) for value in ((), (("input", 0.3),))]
    axes = Axes.of(pair)
    assert axes.values["layout"].values == ("none", "input 0.3")
    assert [axes.point(axes.choice(i)) for i in range(2)] == pair


def test_points_that_cannot_be_told_apart_are_refused():
    one = points_of([{"method": "dip", "density": 0.6}])[0]
    axes = Axes.of([one, replace(one, kv_bits=16)])
    with pytest.raises(InputError, match=r"^f: points that differ in kv_bits alone cannot be"):
        axes.check("f")


@pytest.mark.parametrize("methods", [MIXED, MIXED[1:2]])
def test_the_first_trials_have_every_name(methods: list[Any]):
    axes = Axes.of(points_of(methods))
    places = _first(axes)
    assert len(places) == len(set(places))
    for name, choices in axes.values.items():
        if isinstance(choices.values[0], str):
            met = {axes.rows[place].get(name) for place in places}
            assert set(choices.values) <= met


def test_shares_of_the_cache_are_an_axis():
    methods = [{"method": "dip", "density": [0.6, 0.8], "cache_shares": ["equal", 0.3, 0.7]}]
    points = points_of(methods)
    axes = Axes.of(points)
    assert len(points) == 6
    assert list(axes.values) == ["cache_shares", "density"]
    assert [axes.point(axes.choice(i)) for i in range(6)] == points
