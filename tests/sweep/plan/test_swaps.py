"""Models with another activation in a sweep: points, tasks, keys and the table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.plan.grid import expand
from tests.sweep.tinysweep import planned, run, sweep_of

DIP = {"method": "dip", "density": 0.5}


def of_kind(plan: Any, kind: str) -> list[Any]:
    return [task for task in plan.tasks.values() if task.kind == kind]


def test_a_model_as_it_is_keeps_its_keys(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> None:
    alone = planned(sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP))
    entry = {"model": str(tiny_llama), "activation": ["none", "relu"], "distil_tokens": [0, 192]}
    both = planned(sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP, models=[entry]))
    assert {point.point.key for point in alone.points} < {point.point.key for point in both.points}
    assert set(alone.tasks) < set(both.tasks)
    assert len(both.points) == 3 * len(alone.points)


def test_one_training_serves_all_methods_and_quantisations(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
) -> None:
    entry = {"model": str(tiny_llama), "activation": "drelu", "distil_tokens": 192}
    quant = ["none", {"method": "rtn", "bits": 4, "group_size": 16}]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP, models=[entry], quant=quant)
    plan = planned(sweep)
    learnt, rounded = of_kind(plan, "transform")
    assert learnt.label.startswith("learn drelu 192")
    assert learnt.payload["recipe"] == {"activation": "drelu", "tokens": 192, "held": 8}
    assert len(learnt.payload["windows"]) == 3 + 8
    assert "activation" not in learnt.payload  # it learns from the model as it is
    assert rounded.payload["inputs"] == {"weights": learnt.key}
    assert rounded.payload["activation"] == "drelu"
    for point in plan.points:
        evaluations = (plan.tasks[key].payload for key in point.evaluate_keys)
        assert all(payload["activation"] == "drelu" for payload in evaluations)
        full = (plan.tasks[key].payload for key in point.full_keys)
        assert not any("activation" in payload for payload in full)


def test_tokens_without_an_activation_and_bits_that_cannot_hold_them_are_errors(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
) -> None:
    entry = {"model": str(tiny_llama), "distil_tokens": 192}
    with pytest.raises(InputError, match="name one: relu"):
        sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=[entry])
    entry = {"model": str(tiny_llama), "activation": "rellu"}
    with pytest.raises(InputError, match="did you mean relu"):
        sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=[entry])
    entry = {"model": str(tiny_llama), "activation": "relu", "distil_tokens": 192}
    quant = [{"method": "none", "bits": "file"}]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=[entry], quant=quant)
    with pytest.raises(InputError, match="its file's bits cannot hold"):
        expand(sweep)


def test_the_table_has_a_row_for_each(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> None:
    entry = {
        "model": str(tiny_llama),
        "title": "Tiny",
        "activation": ["none", "relu"],
        "distil_tokens": [0, 1920],
    }
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP, models=[entry])
    _, table = run(sweep, tmp_path / "out")
    assert list(table["status"]) == ["done"] * 6
    dense = table[table["method"] == "dense"].set_index("model_title")
    assert list(dense.index) == ["Tiny", "Tiny (ReLU)", "Tiny (ReLU, 1,920 tokens)"]
    own, zero_shot, learnt = (dense.iloc[i] for i in range(3))
    assert own["ppl"] == own["ppl_full"] == zero_shot["ppl_full"] == learnt["ppl_full"]
    assert own["ppl"] != zero_shot["ppl"] != learnt["ppl"]
    assert math.isnan(own["zeros"])
    assert 0.2 < zero_shot["zeros"] < 0.8
    assert set(table.groupby("model")["zeros"].nunique()) == {0, 1}
    assert list(dense["activation"]) == ["", "relu", "relu"]
    _, same = run(sweep, tmp_path / "out")
    assert same.equals(table)
