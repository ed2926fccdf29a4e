"""Quantisations and static pruning in the sweep file: faults in plain words, axes, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.errors import InputError
from sweep.plan import grid
from sweep.plan.point import Point, Quant
from sweep.plan.weight_steps import quant_label
from sweep.spec import file as spec

BASE = {
    "models": ["smollm2-135m"],
    "methods": ["dense"],
    "devices": [{"device": "apple-a18", "dram_gb": 0.06}],
}


def points(folder: Path, defaults: dict[str, Any] | None = None, **keys: Any) -> tuple[Point, ...]:
    path = folder / "sweeps.yaml"
    path.write_text(yaml.safe_dump({"defaults": defaults or {}, "sweeps": {"s": BASE | keys}}))
    return grid.expand(spec.select(spec.load(path), "s")).points


@pytest.mark.parametrize(
    ("quant", "place", "message"),
    [
        ({"method": "gptq", "bits": [3, 5]}, "bits", "gptq has no 5 bits (it has: 2, 3, 4, 8)"),
        ({"method": "gptvq", "bits": 8}, "bits", "gptvq has no 8 bits (it has: 2, 3, 4)"),
        ({"method": "rtn", "group_size": 0}, "group_size", "group_size 0 of rtn is not a whole"),
        ({"method": "rtn", "act_order": True}, "act_order", "unknown key (allowed: method, bits"),
        ({"method": ["none", "gptq"], "damping": 0.1}, "damping", "unknown key (allowed: method"),
        ({"method": "gptq", "dampin": 0.1}, "dampin", "unknown key; did you mean damping?"),
        ({"method": "gptq", "damping": [0.01, 7]}, "damping", "damping 7 of gptq is not above 0"),
        ({"method": "gptq", "calibration_windows": 0}, "calibration_windows", "0 of gptq is not"),
    ],
)
def test_faults_of_quantisations_are_named_with_their_place(
    tmp_path: Path, quant: dict[str, Any], place: str, message: str
) -> None:
    for defaults, keys, where in (
        (None, {"quant": [quant]}, "sweeps.s.quant[0]"),
        ({"quant": [quant]}, {}, "defaults.quant[0]"),
        (
            None,
            {"methods": [{"method": "dense", "quant": [quant]}]},
            "sweeps.s.methods[0].quant[0]",
        ),
    ):
        with pytest.raises(InputError) as error:
            points(tmp_path, defaults, **keys)
        lines = str(error.value).splitlines()
        assert len(lines) == 1, lines
        assert f"{where}.{place}: " in lines[0]
        assert message in lines[0]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"density": 0.4, "pattern": "2:4"}, "0.4 is out of reach of sparsegpt; it has only 0.5"),
        ({"density": 0.5, "pattern": "3:4"}, "unknown pattern '3:4' of sparsegpt"),
        ({"density": 0.5, "damping": 2}, "damping 2 of sparsegpt is not above 0"),
        ({"density": 0.5, "bits": 4}, "unknown key of an entry of sparsegpt"),
    ],
)
def test_faults_of_static_pruning(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        points(tmp_path, methods=[{"method": "sparsegpt", **entry}])
    assert message in str(error.value)


def test_a_pattern_without_quotes_is_a_number_to_yaml(tmp_path: Path) -> None:
    path = tmp_path / "sweeps.yaml"
    entry = "{method: sparsegpt, density: 0.5, pattern: 2:4}"
    path.write_text(yaml.safe_dump({"sweeps": {"s": BASE}}).replace("- dense", f"- {entry}"))
    with pytest.raises(InputError, match="to base 60 by YAML; quote it to mean text"):
        spec.load(path)


def test_lists_are_axes_and_writing_a_default_changes_nothing(tmp_path: Path) -> None:
    given = {"method": ["rtn", "gptq"], "bits": [3, 4], "group_size": [64, 128]}
    found = points(tmp_path, quant=[given])
    assert len({p.quant for p in found}) == 8
    assert len({p.key for p in found}) == 8
    written = {"method": "gptq", "bits": 4.0, "damping": 0.01, "act_order": False}
    (plain,) = points(tmp_path, quant=[{"method": "gptq"}])
    (same,) = points(tmp_path, quant=[written])
    (other,) = points(tmp_path, quant=[written | {"act_order": True}])
    assert plain.key == same.key != other.key


def test_different_quantisations_have_different_words(tmp_path: Path) -> None:
    given = [
        {"method": "gptq", "act_order": [False, True], "calibration_windows": [16, 128]},
        {"method": "gptvq", "bits": 3, "group_size": 64, "iterations": [10, 20]},
        {"method": "rtn", "bits": [3, 4]},
        "none",
    ]
    quants = [p.quant for p in points(tmp_path, quant=given)]
    words = [quant_label(q.method, q.bits, q.group_size, dict(q.parameters)) for q in quants]
    assert set(words) == {
        "4 bit",
        "rtn 3 bit",
        "rtn 4 bit",
        "gptq 4 bit",
        "gptq 4 bit act_order",
        "gptq 4 bit calibration_windows=16",
        "gptq 4 bit act_order calibration_windows=16",
        "gptvq 3 bit g64",
        "gptvq 3 bit g64 iterations=20",
    }


def test_an_entry_may_have_quantisations_of_its_own(tmp_path: Path) -> None:
    methods = [
        {"method": "dense", "quant": ["none", {"method": "gptq", "bits": 3}]},
        {"method": "dip", "density": 0.5, "quant": [{"method": "gptvq", "bits": 3}]},
        {"method": "up", "density": 0.5},
    ]
    found = points(tmp_path, methods=methods, quant=[{"method": "rtn", "bits": 4}])
    names = [(p.quant.method, p.quant.bits, p.method) for p in found]
    assert sorted(names) == sorted(
        [("none", 4, "dense"), ("gptq", 3, "dense"), ("gptvq", 3, "dip"), ("rtn", 4, "up")]
    )


def test_a_rule_can_exclude_a_quantisation(tmp_path: Path) -> None:
    methods = ["dense", {"method": "dip", "density": 0.5}]
    rule = {"quant": "rtn", "method": "dip"}
    quants = ["none", {"method": "rtn", "bits": 4}]
    found = points(tmp_path, methods=methods, quant=quants, exclude=[rule])
    assert [(p.quant.method, p.method) for p in found] == [
        ("none", "dense"),
        ("none", "dip"),
        ("rtn", "dense"),
    ]


def test_static_pruning_has_no_cache_and_stores_what_it_keeps(tmp_path: Path) -> None:
    entry = {"method": "magnitude", "density": [0.5, 0.7]}
    found = points(tmp_path, methods=[entry], policies=["lfu", "lru"], cache={"start": "hot"})
    assert [(p.density, p.policy, p.selector, p.cache_start) for p in found] == [
        (0.5, "none", "topk", "empty"),
        (0.7, "none", "topk", "empty"),
    ]
    assert [p.storage.mlp_share for p in found] == [0.5, 0.7]
    assert found[0].quant == Quant()
