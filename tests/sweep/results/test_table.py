"""The table of a run that was stopped: rows of the windows that are done."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.results import table
from sweep.store.store import Store
from tests.sweep.tinysweep import run, sweep_of

DIP = {"method": "dip", "density": 0.5}


Stopped = tuple[SweepPlan, Path]


@pytest.fixture(scope="module")
def finished(tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A sweep of three windows, a shard each, and its store."""
    folder = tmp_path_factory.mktemp("stopped")
    sweep = sweep_of(tiny_llama, folder, tiny_text, "dense", DIP, windows=3)
    run(sweep, folder / "out")
    return plan_sweep(sweep, fetch=True), folder / "out"


def rows_without(finished: Stopped, *lost: str) -> list[Any]:
    """Rows of the sweep from a store that lacks some tasks."""
    made, out = finished
    store = Store(out)
    for key in lost:
        del store.records[key]
    return table.build(made.plan, store, made.materials).to_pylist()


def test_a_finished_run_has_all_its_windows(finished: Stopped) -> None:
    dense, dip = rows_without(finished)
    assert {row["status"] for row in (dense, dip)} == {"done"}
    assert {(row["windows"], row["windows_asked"]) for row in (dense, dip)} == {(3, 3)}
    assert dip["ppl_ratio_low"] <= dip["ppl"] / dip["ppl_dense"] <= dip["ppl_ratio_high"]
    assert dip["bos"] == ""


def test_what_lacks_a_shard_is_held_against_dense_on_the_others(finished: Stopped) -> None:
    own, whole = finished[0].plan.points[1], rows_without(finished)[1]
    dense, dip = rows_without(finished, own.evaluate_keys[1])
    assert (dense["status"], dense["windows"]) == ("done", 3)
    assert (dip["status"], dip["windows"], dip["windows_asked"]) == ("partial", 2, 3)
    records = Store(finished[1]).records
    nll = [records[own.dense_keys[i]].result["nll"][0] for i in (0, 2)]
    assert dip["ppl_dense"] == pytest.approx(math.exp(sum(nll) / (2 * 63)))
    assert dip["tokens_per_s"] > 0
    assert dip["ppl"] != whole["ppl"]


def test_what_has_no_whole_shard_is_missing(finished: Stopped) -> None:
    own = finished[0].plan.points[1]
    lost = (own.evaluate_keys[0], own.dense_keys[1], own.simulate_keys[2])
    dense, dip = rows_without(finished, *lost)
    assert (dense["status"], dip["status"]) == ("partial", "missing")
    assert dip["ppl"] is None
