"""Static pruning that is trained, from a sweep to its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.plan.grid import expand
from tests.sweep.tinysweep import planned, run, sweep_of

DSNOT = {"method": "dsnot", "density": 0.4, "calibration_windows": 4}
LOSA = {
    "method": "losa",
    "density": 0.4,
    "calibration_windows": 4,
    "rounds": 2,
    "steps": 1,
    "rank": 2,
}


def test_trained_pruning_has_the_bytes_of_static_pruning_and_its_own_density(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    wanda = {"method": "wanda", "density": 0.4, "calibration_windows": 4}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", wanda, DSNOT, LOSA)
    kinds = [task.kind for task in planned(sweep).tasks.values()]
    assert (kinds.count("train"), kinds.count("transform")) == (2, 1)
    _, table = run(sweep, tmp_path / "out")
    every: list[Any] = list(table.itertuples())
    rows = {row.method: row for row in every}
    assert {row.status for row in rows.values()} == {"done"}
    for name in ("dsnot", "losa"):
        row: Any = rows[name]
        for column in ("overhead_bytes", "static_bytes", "weight_bytes", "tokens_per_s"):
            assert getattr(row, column) == getattr(rows["wanda"], column)
        assert row.ppl != rows["wanda"].ppl
        assert row.ppl != row.ppl_dense
    kept = (2 * int(0.4 * 48) * 96 + int(0.4 * 96) * 48) / (3 * 48 * 96)
    assert rows["dsnot"].mlp_density == pytest.approx(kept)
    assert rows["losa"].mlp_density == pytest.approx(0.4, abs=0.02)


def test_dsnot_works_on_quantised_weights_and_losa_on_none(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    quant = [{"method": ["gptq", "rtn"], "bits": 4}]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DSNOT, LOSA, quant=quant)
    grid = expand(sweep)
    assert {point.method for point in grid.points} == {"dense", "dsnot"}
    (skipped,) = [one for one in grid.skipped if one.points]
    assert "losa trains the weights that it keeps, and does not round them" in skipped.reason
    plan = planned(sweep)
    trainings = [task for task in plan.tasks.values() if task.kind == "train"]
    made = {task.key for task in plan.tasks.values() if task.kind == "transform"}
    assert {task.payload["inputs"]["weights"] for task in trainings} == made
    assert len(made) == 2


def test_what_trainings_depend_on_is_in_their_key(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    def key(**own: Any) -> str:
        tasks = planned(sweep_of(tiny_llama, tmp_path, tiny_text, {**DSNOT, **own})).tasks
        (training,) = [task.key for task in tasks.values() if task.kind == "train"]
        return training

    changes: list[dict[str, Any]] = [
        {"start": "magnitude"},
        {"variant": "code"},
        {"max_cycles": 9},
        {"threshold": 1},
        {"density": 0.5},
        {"density": 0.5, "pattern": "2:4"},
    ]
    assert len({key(), *(key(**own) for own in changes)}) == 1 + len(changes)
