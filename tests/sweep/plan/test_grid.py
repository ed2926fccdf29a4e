"""Points of a sweep: axes, aliases, what makes no sense, includes and excludes, keys."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
import time
from typing import Any

import pytest

from simulator.geometry import Geometry, Storage
from sweep.errors import InputError
from sweep.plan import grid
from sweep.plan.grid import Grid
from sweep.plan.point import MethodTraits, Point, Quant
from sweep.spec import file as spec

BASE: dict[str, Any] = {
    "models": "smollm2-135m",
    "methods": "dense",
    "devices": [{"device": "apple-a18", "dram_gb": [0.06, 0.075], "flash_gbps": [0.5, 1, 2]}],
}


def expand(**changes: Any) -> Grid:
    file = spec.from_mapping({"sweeps": {"s": {**copy.deepcopy(BASE), **changes}}})
    return grid.expand(file.sweeps["s"])


def described(points: tuple[Point, ...], *names: str) -> list[tuple[Any, ...]]:
    """Chosen fields of the points, each combination once."""
    return list(dict.fromkeys(tuple(getattr(p, name) for name in names) for p in points))


def test_dense_is_one_point_a_device_whatever_else_is_asked():
    points = expand(
        methods=["dense", {"method": "dense", "gamma": [0.2, 0.5]}],
        policies=["lfu", "lru", "belady"],
        cache={"start": ["empty", "hot"], "scope": ["window", "carry"]},
    ).points
    assert len(points) == 6
    names = ("method", "density", "selector", "gamma", "policy", "cache_start", "cache_scope")
    assert described(points, *names) == [("dense", 1.0, "topk", 1.0, "none", "empty", "window")]


def test_each_entry_expands_by_itself():
    points = expand(
        methods=[
            {"method": ["glu", "up"], "density": [0.7, 0.8]},
            {
                "method": "dip",
                "density": {"from": 0.5, "to": 0.6, "step": 0.1},
                "allocation": ["paper", "uniform"],
            },
        ],
        policies=["lfu", "lru"],
    ).points
    assert len(points) == (4 + 4) * 6 * 2
    assert described(points, "method", "density", "parameters") == [
        ("glu", 0.7, ()),
        ("glu", 0.8, ()),
        ("up", 0.7, ()),
        ("up", 0.8, ()),
        ("dip", 0.5, (("allocation", "paper"),)),
        ("dip", 0.6, (("allocation", "paper"),)),
        ("dip", 0.5, (("allocation", "uniform"),)),
        ("dip", 0.6, (("allocation", "uniform"),)),
    ]


def test_dip_ca_is_dip_with_gamma_unless_gamma_is_given():
    points = expand(methods=[{"method": ["dip", "dip-ca"], "density": 0.5}]).points
    assert described(points, "method", "gamma", "selector") == [
        ("dip", 1.0, "topk"),
        ("dip", 0.2, "cache-aware"),
    ]
    points = expand(methods=[{"method": "dip-ca", "density": 0.5, "gamma": [1.0, 0.3]}]).points
    assert described(points, "gamma", "selector") == [(1.0, "topk"), (0.3, "cache-aware")]


def test_gamma_below_one_needs_an_online_policy_and_says_what_it_skips():
    found = expand(
        methods=[{"method": "dip", "density": 0.5, "gamma": [0.2, 1.0]}],
        policies=["none", "lfu", "lru", "belady", "min", "static"],
    )
    aware = [p for p in found.points if p.gamma < 1]
    assert described(tuple(aware), "policy") == [("lfu",), ("lru",)]
    assert len(found.points) == 2 * 6 + 6 * 6
    assert {s.reason: s.points for s in found.skipped} == {
        f"gamma below 1 needs policy lfu or lru, not {policy}": 6
        for policy in ("none", "belady", "min", "static")
    }


def test_policies_with_a_number_are_named_with_it():
    found = expand(methods=[{"method": "dip", "density": 0.5}], policies=["window-5", "window-12"])
    assert {p.policy for p in found.points} == {"window-5", "window-12"}
    left = expand(
        methods=[{"method": "dip", "density": 0.5}],
        policies=["window-5", "window-12"],
        exclude=[{"policy": "window-12"}],
    )
    assert {p.policy for p in left.points} == {"window-5"}
    for wrong in ("window", "window-0", "window-x", "lru-2"):
        with pytest.raises(InputError, match=f"unknown policy '{wrong}'"):
            expand(methods=[{"method": "dip", "density": 0.5}], policies=wrong)


def test_policies_of_engines_do_not_go_with_gamma():
    entry = {"method": "dip", "density": 0.5, "gamma": 0.2}
    for policy in ("window-5", "lfu-admit", "lfru", "slru", "hot-set"):
        with pytest.raises(
            InputError, match=f"gamma below 1 needs policy lfu or lru, not {policy}"
        ):
            expand(methods=[entry], policies=policy)


def test_a_sweep_without_a_point_is_an_error_that_says_why():
    entry = {"method": "dip", "density": 0.5, "gamma": 0.2}
    with pytest.raises(InputError, match=r"sweeps\.s: no point is left: 6 by gamma below 1 needs"):
        expand(methods=[entry], policies="belady")
    with pytest.raises(InputError, match=r"no point is left: 6 by exclude\[0\]: method dense"):
        expand(exclude=[{"method": "dense"}])


def test_points_that_fall_together_are_one():
    entries = [
        {"method": "dip", "density": [0.5, 0.5, 0.6]},
        {"method": "dip", "density": 0.6, "allocation": "paper"},
        {"method": "dip", "density": {"from": 0.4, "to": 0.6, "step": 0.1}, "gamma": 1},
    ]
    points = expand(methods=entries).points
    assert described(points, "density") == [(0.5,), (0.6,), (0.4,)]
    assert len(points) == len({p.key for p in points}) == 18


def test_policy_none_has_neither_start_nor_scope():
    found = expand(
        methods=[{"method": "dip", "density": 0.5}],
        policies=["none", "lru"],
        cache={"start": ["empty", "hot"], "scope": ["window", "carry"]},
    )
    caches = described(found.points, "policy", "cache_start", "cache_scope")
    assert len(caches) == 1 + 4
    assert caches[0] == ("none", "empty", "window")


def test_entries_may_have_their_own_policies_models_and_devices():
    points = expand(
        models=["smollm2-135m", "phi-3-mini"],
        methods=[
            "dense",
            {"method": "up", "density": 0.7, "policies": ["lru", "none"], "models": "phi-3-mini"},
            {"method": "glu", "density": 0.7, "devices": ["apple-a17-pro"]},
        ],
        devices=[
            {"device": "apple-a18", "dram_gb": 0.06, "models": "smollm2-135m"},
            {"device": "apple-a18", "dram_gb": [1.5, 2], "models": ["phi-3-mini"]},
        ],
    ).points
    found = [(p.model, p.method, p.policy, p.device.name, p.device.dram_gb) for p in points]
    a17 = grid.Device.load("apple-a17-pro").dram_gb
    assert found == [
        ("smollm2-135m", "dense", "none", "apple-a18", 0.06),
        ("smollm2-135m", "glu", "lfu", "apple-a17-pro", a17),
        ("phi-3-mini", "dense", "none", "apple-a18", 1.5),
        ("phi-3-mini", "dense", "none", "apple-a18", 2.0),
        ("phi-3-mini", "up", "lru", "apple-a18", 1.5),
        ("phi-3-mini", "up", "none", "apple-a18", 1.5),
        ("phi-3-mini", "up", "lru", "apple-a18", 2.0),
        ("phi-3-mini", "up", "none", "apple-a18", 2.0),
        ("phi-3-mini", "glu", "lfu", "apple-a17-pro", a17),
    ]


def test_devices_of_a_users_own_and_timing():
    own = {"device": "my-phone", "dram_gb": 4, "flash_gbps": 2, "dram_gbps": 50, "title": "Mine"}
    points = expand(devices=[own, {**own, "device": "b", "timing": "serial"}]).points
    assert [(p.device.name, p.device.dram_gbps, p.timing) for p in points] == [
        ("my-phone", 50.0, "overlap"),
        ("b", 50.0, "serial"),
    ]
    assert points[0].device.title == "Mine"
    points = expand(devices=["apple-a18"], timing=["overlap", "serial"]).points
    assert [(p.timing, p.device.timing) for p in points] == [("overlap",) * 2, ("serial",) * 2]


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        ({"method": "up", "density": 0.7}, 6),
        ({"density": [0.7, 0.8]}, 36),
        ({"method": ["up", "dip"], "policy": "lru", "dram_gb": 0.06}, 12),
        ({"dram_gb": 0.075, "flash_gbps": {"from": 0.5, "to": 2, "step": 0.5}}, 33),
        ({"allocation": "uniform"}, 12),
        ({"method": "dip-ca"}, 12),
        ({"gamma": 0.5}, 12),
        ({"device": "apple-a18", "policy": "none"}, 6),
        ({"model": "phi-3-mini"}, 0),
    ],
)
def test_a_rule_drops_what_matches_all_its_keys(rule, dropped):
    methods = [
        "dense",
        {"method": "up", "density": [0.7, 0.8], "policies": "lfu"},
        {"method": "dip", "density": 0.6, "allocation": ["paper", "uniform"]},
        {"method": "dip", "density": [0.7], "gamma": 0.5},
        {"method": "dip", "density": [0.8], "gamma": 1},
    ]
    everything = expand(methods=methods, policies=["lfu", "lru"])
    assert len(everything.points) == 6 + 12 + 24 + 12 + 12 == 66
    found = expand(methods=methods, policies=["lfu", "lru"], exclude=[rule])
    (skipped,) = found.skipped
    assert skipped.reason.startswith("exclude[0]: ")
    assert skipped.points == dropped
    assert len(found.points) == 66 - dropped
    assert set(found.points) <= set(everything.points)


def test_include_adds_what_exclude_does_not_touch():
    found = expand(
        methods=["dense", {"method": "dip", "density": [0.5, 0.6]}],
        exclude=[{"method": "dip"}],
        include=[{"method": "dip", "density": 0.6, "policies": "lru"}],
    )
    assert described(found.points, "method", "density", "policy") == [
        ("dense", 1.0, "none"),
        ("dip", 0.6, "lru"),
    ]
    assert [(s.reason, s.points) for s in found.skipped] == [("exclude[0]: method dip", 12)]


def test_a_rule_that_matches_nothing_is_shown_with_zero_points():
    found = expand(exclude=[{"method": "up"}])
    assert [(s.reason, s.points) for s in found.skipped] == [("exclude[0]: method up", 0)]


def test_storage_and_accuracy_of_a_point():
    points = expand(
        quant=[{"method": "none", "bits": [4, 8]}],
        kv={"bits": 16, "tokens": 1024},
        windows="all",
        resources={"evaluate": {"cpu": 2}},
    ).points
    assert described(points, "quant") == [(Quant(),), (Quant(bits=8),)]
    assert points[0].storage == Storage(kv_bits=16, kv_tokens=1024)
    assert points[0].accuracy.windows is None
    assert points[0].accuracy.threads == 2


def test_the_key_is_of_everything_but_the_sweeps_name_and_prose():
    point = expand(methods=[{"method": "dip", "density": 0.5}]).points[0]
    assert len(point.key) == 16
    prose = dataclasses.replace(point.device, title="another", source="another")
    assert dataclasses.replace(point, sweep="t", device=prose).key == point.key
    changes: list[dict[str, Any]] = [
        {"model": "phi-3-mini"},
        {"density": 0.6},
        {"parameters": (("allocation", "uniform"),)},
        {"gamma": 0.5, "selector": "cache-aware"},
        {"policy": "lru"},
        {"device": dataclasses.replace(point.device, flash_gbps=3.0)},
        {"cache_start": "hot"},
        {"cache_scope": "carry"},
        {"timing": "serial"},
        {"accuracy": dataclasses.replace(point.accuracy, seed=1)},
        {"quant": Quant(bits=8)},
        {"kv_bits": 16},
        {"geometry": Geometry.load("phi-3-mini")},
    ]
    keys = {dataclasses.replace(point, **change).key for change in changes}
    assert len(keys | {point.key}) == len(changes) + 1


def test_the_key_does_not_depend_on_the_order_or_form_of_the_file():
    first = expand(methods=[{"method": "dip", "density": [0.5, 0.6]}]).points
    second = expand(
        methods=[
            {
                "method": "dip",
                "allocation": "paper",
                "density": {"from": 0.5, "to": 0.6, "step": 0.1},
            }
        ],
        devices=[{"device": "apple-a18", "flash_gbps": [2, 1.0, 0.5], "dram_gb": [0.075, 0.06]}],
    ).points
    assert [p.key for p in first] != [p.key for p in second]
    assert {p.key for p in first} == {p.key for p in second}


def test_too_many_points_are_refused_before_they_are_made():
    axis = {"from": 0.001, "to": 1, "step": 0.001}
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"6,000,000 points; at most 1,000,000 are allowed"):
        expand(methods=[{"method": "dip", "density": axis, "gamma": axis}])
    assert time.perf_counter() - started < 5


LARGE = """
import sys, time
from sweep.plan import grid
from sweep.spec import file as spec
axis = {"from": 0.2, "to": 0.99, "step": 0.01}
sweep = {
    "models": ["smollm2-135m"],
    "methods": ["dense", {"method": "dip", "density": axis}],
    "devices": [{"device": "apple-a18", "dram_gb": [1, 2, 3, 4, 5], "flash_gbps": [1, 2, 3, 4, 5]}],
    "policies": ["lfu", "lru"],
}
file = spec.from_mapping({"sweeps": {"s": sweep}})
started = time.perf_counter()
points = grid.expand(file.sweeps["s"]).points
seconds = time.perf_counter() - started
heavy = {"torch", "ray", "transformers", "numba", "pandas", "optuna", "lm_eval"} & set(sys.modules)
print(len(points), seconds < 2, sorted(heavy))
"""


def test_thousands_of_points_expand_quickly_without_heavy_imports():
    done = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "4025 True []\n"


def test_points_share_the_traits_of_their_method_and_do_not_count_them() -> None:
    entries = ["dense", {"method": "dip", "density": [0.5, 0.7]}]
    points = expand(methods=entries, devices=[{"device": "apple-a18"}], policies="lfu").points
    dense, first, second = points
    assert first.traits is second.traits
    assert (dense.traits.groups, first.traits.groups) == ((), ("input", "intermediate"))
    told = dataclasses.replace(first, traits=MethodTraits.of("glu-oracle"))
    assert told.traits.oracle
    assert (told, told.key, hash(told)) == (first, first.key, hash(first))


def test_traits_say_what_a_method_is() -> None:
    static, trained = MethodTraits.of("sparsegpt"), MethodTraits.of("cats+lora")
    assert (static.static, static.updates, static.groups) == (True, True, ())
    assert (trained.trained, trained.calibrated_as, trained.selector) == (
        "each density",
        "cats",
        "layer-threshold",
    )
    assert not MethodTraits.of("dip").oracle
    assert "layers" not in MethodTraits.of("dip").calibration_parameters


def test_thresholds_never_give_way_to_the_cache_in_silence():
    """The selector that is a method's own counts as one that is asked for."""
    both = {"method": "cats", "density": 0.5, "gamma": [0.3, 1.0]}
    found = expand(methods=[both], policies=["lfu"])
    assert described(found.points, "gamma", "selector") == [(1.0, "layer-threshold")]
    (skipped,) = found.skipped
    assert skipped.points == len(found.points)
    assert "not by layer-threshold, the selector of cats; selector: topk" in skipped.reason
    asked = [{"method": "cats", "density": 0.5, "gamma": 0.3, "selector": "topk"}]
    assert described(expand(methods=asked, policies=["lfu"]).points, "selector") == [
        ("cache-aware",)
    ]
