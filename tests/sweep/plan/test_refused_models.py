"""A sweep of several models, of which some are refused: all are named at once, and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.errors import InputError
from sweep.plan.excluded_points import check_each
from sweep.plan.sweep_plan import plan_sweep
from tests.sweep.tinysweep import run, sweep_of


def _refuse_even(number: int) -> None:
    if number % 2 == 0:
        raise InputError(f"{number} is even")


def test_every_refused_model_is_named_once() -> None:
    check_each({"a": 1, "b": 3}, _refuse_even, "s")
    with pytest.raises(InputError) as refused:
        check_each({"a": 2, "b": 3, "c": 4, "d": 5}, _refuse_even, "s")
    assert str(refused.value).splitlines() == [
        "2 is even",
        "4 is even",
        "2 of 4 models are refused; the others run with --set 'sweeps.s.models=[b, d]'",
    ]
    with pytest.raises(InputError, match=r"\A2 is even\Z"):  # one alone: nothing is left to run
        check_each({"a": 2}, _refuse_even, "s")


def test_a_plan_names_all_of_them(
    tiny_llama: Path, tiny_phi3: Path, tiny_ungated: Path, tiny_text: str, tmp_path: Path
) -> None:
    models = [str(tiny_llama), str(tiny_ungated), str(tiny_phi3)]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=models)
    with pytest.raises(InputError) as refused:
        plan_sweep(sweep)
    why, how = str(refused.value).splitlines()
    assert why.startswith(f"model {tiny_ungated}: ")
    assert "gated MLP" in why
    assert how.startswith("1 of 3 models is refused; the others run with --set ")
    assert how.endswith(f"models=[{tiny_llama}, {tiny_phi3}]'")


def test_an_excluded_model_is_asked_for_nothing(
    tiny_llama: Path, tiny_ungated: Path, tiny_text: str, tmp_path: Path
) -> None:
    models = [str(tiny_llama), str(tiny_ungated)]
    exclude = [{"model": str(tiny_ungated)}]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=models, exclude=exclude)
    done, table = run(sweep, tmp_path / "run")
    assert not done.failed
    assert table.model.tolist() == [str(tiny_llama)]
    known = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert list(known["models"]) == [str(tiny_llama)]
