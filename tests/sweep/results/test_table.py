"""The table of a run that was stopped: rows of the windows that are done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.plan.materials import Materials
from sweep.results import table
from sweep.store.store import Store
from tests.sweep.tinysweep import planned, run, sweep_of

DIP = {"method": "dip", "density": 0.5}


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path, list[Any]]:
    """A sweep of three windows, a shard each, its store, and its rows."""
    folder = tmp_path_factory.mktemp("stopped")
    sweep = sweep_of(tiny_llama, folder, tiny_text, "dense", DIP, windows=3)
    run(sweep, folder / "out")
    return sweep, folder / "out", rows_without(sweep, folder / "out", ())


def rows_without(sweep: Any, out: Path, lost: tuple[str, ...]) -> list[Any]:
    """Rows of the sweep from a store that lacks some tasks."""
    store = Store(out)
    for key in lost:
        del store.records[key]
    return table.build(planned(sweep), store, Materials(sweep)).to_pylist()


def test_a_finished_run_has_all_its_windows(finished: tuple[Any, Path, list[Any]]) -> None:
    dense, dip = finished[2]
    assert {row["status"] for row in (dense, dip)} == {"done"}
    assert {(row["windows"], row["windows_asked"]) for row in (dense, dip)} == {(3, 3)}
    assert dip["ppl_ratio_low"] <= dip["ppl"] / dip["ppl_dense"] <= dip["ppl_ratio_high"]
    assert dip["bos"] == ""


def test_what_lacks_a_shard_is_held_against_dense_on_the_others(
    finished: tuple[Any, Path, list[Any]],
) -> None:
    sweep, out, (_, whole) = finished
    own = planned(sweep).points[1]
    dense, dip = rows_without(sweep, out, (own.evaluate_keys[1],))
    assert (dense["status"], dense["windows"]) == ("done", 3)
    assert (dip["status"], dip["windows"], dip["windows_asked"]) == ("partial", 2, 3)
    records = Store(out).records
    nll = [records[own.dense_keys[i]].result["nll"][0] for i in (0, 2)]
    ppl_dense = 2.718281828459045 ** (sum(nll) / (2 * 63))
    assert dip["ppl_dense"] == pytest.approx(ppl_dense)
    assert dip["tokens_per_s"] > 0
    assert dip["ppl"] != whole["ppl"]


def test_what_has_no_whole_shard_is_missing(finished: tuple[Any, Path, list[Any]]) -> None:
    sweep, out, _ = finished
    own = planned(sweep).points[1]
    lost = (own.evaluate_keys[0], own.dense_keys[1], own.simulate_keys[2])
    dense, dip = rows_without(sweep, out, lost)
    assert (dense["status"], dip["status"]) == ("partial", "missing")
    assert dip["ppl"] is None
