"""`sweep compare`: windows are paired from the stores of both runs; the gate decides the exit."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sweep import api
from sweep.errors import InputError
from sweep.results import perplexity as stats
from sweep.results.compare import run
from sweep.results.perplexity import Losses
from tests.sweep.cli.test_app import Call, call  # noqa: F401  (a fixture)
from tests.sweep.tinysweep import sweep_of


@pytest.fixture(scope="module")
def old(tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    entries: list[Any] = [
        {"method": "dip", "density": [0.5, 0.8]},
        {"method": "magnitude", "density": 0.5},
    ]
    sweep = sweep_of(tiny_llama, place, tiny_text, "dense", *entries, windows=6)
    options = api.Options(place / "run", place / "store", workers=0, report=False)
    api.run(sweep, options, Console(file=io.StringIO()))
    return place / "run"


def changed(old: Path, folder: Path, change: Any) -> Path:
    """A copy of the run whose rows `change` has altered."""
    shutil.copytree(old, folder)
    table = pq.read_table(folder / "results.parquet")
    rows = [row for row in map(change, table.to_pylist()) if row is not None]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "results.parquet")
    return folder


def slower(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "tokens_per_s": row["tokens_per_s"] * (0.9 if row["density"] == 0.5 else 1)}


def test_a_run_against_itself_has_intervals_of_zero(old: Path) -> None:
    ((found, verdicts),) = run([old, old], ["ppl > 0 significant", "removed > 0"])
    assert not found.changed
    assert all(not v.hits for v in verdicts)
    assert verdicts[0].unknown == 0
    for pair in found.pairs:
        assert pair.differences["ppl"].interval == (0.0, 0.0)
        assert pair.differences["delta_ppl"].interval == (0.0, 0.0)
    assert {pair.new.method for pair in found.pairs} == {"dense", "dip", "magnitude"}


def test_changes_of_one_point_into_another_have_the_interval_of_their_windows(
    old: Path, tmp_path: Path
) -> None:
    """The row of density 0.8 goes by the key of 0.5: what `delta_interval` gives is known."""
    rows = pq.read_table(old / "results.parquet").to_pylist()
    by_density = {r["density"]: r for r in rows if r["method"] == "dip"}

    def swap(row: dict[str, Any]) -> dict[str, Any] | None:
        if row["method"] != "dip":
            return row
        return None if row["density"] == 0.5 else {**row, "point_key": by_density[0.5]["point_key"]}

    ((found, _),) = run([old, changed(old, tmp_path / "new", swap)], [])
    (pair,) = [p for p in found.pairs if p.old.density != p.new.density]
    difference = pair.differences["delta_ppl"]
    assert difference.interval is not None
    low, high = difference.interval
    assert low <= difference.change <= high
    assert low < high
    assert pair.differences["ppl"].interval == pytest.approx((low, high))  # dense is the same


def test_change_interval_is_delta_interval_with_a_plain_dense_run() -> None:
    rng = np.random.default_rng(1)
    predicted = np.full(8, 100.0)
    nll = [Losses(300 + 10 * rng.random(8), predicted) for _ in range(4)]
    assert stats.change_interval(nll[0], nll[1]) == stats.delta_interval(nll[1], nll[0])
    same = stats.change_interval(nll[0], nll[1], nll[2], nll[2])
    assert same == pytest.approx(stats.change_interval(nll[0], nll[1]))
    moved = [x.perplexity * (x.nll / 100 - x.mean) for x in nll]
    total = nll[1].perplexity - nll[0].perplexity - (nll[3].perplexity - nll[2].perplexity)
    spread = np.std(moved[1] - moved[0] - (moved[3] - moved[2]), ddof=1) / np.sqrt(8)
    half = stats.student_t(7) * spread
    low, high = stats.change_interval(nll[0], nll[1], nll[2], nll[3])
    assert total - 1.6 * half < low <= total - half
    assert total + half <= high < total + 1.6 * half
    one = Losses(np.ones(1), np.ones(1))
    assert np.isnan(stats.change_interval(one, one)).all()


def test_stores_are_compared_by_their_evaluations(old: Path, tmp_path: Path) -> None:
    store = old.parent / "store"
    shutil.copytree(store, tmp_path / "copy")
    ((found, verdicts),) = run([store, tmp_path / "copy"], ["ppl > 0 significant"])
    assert len(found.pairs) == 4  # dense, twice dip, and the pruned weights
    assert not found.changed
    assert verdicts[0].looked_at == 4


def test_windows_that_cannot_be_found_leave_it_unknown(old: Path, tmp_path: Path) -> None:
    new = changed(old, tmp_path / "new", slower)
    (new / "plan.json").unlink()
    ((found, verdicts),) = run([old, new], ["delta_ppl > 0 significant"])
    assert all(p.differences["delta_ppl"].significant is None for p in found.pairs)
    assert verdicts[0].unknown == verdicts[0].looked_at > 0


def test_the_gate_decides_the_exit_code(call: Call, old: Path, tmp_path: Path) -> None:  # noqa: F811
    new = changed(old, tmp_path / "new", slower)
    passed = call("compare", old, old, "--fail-if", "tokens_per_s < -2%")
    assert (passed.code, passed.err) == (0, "")
    assert "passed (looked at 4)" in passed.out
    failed = call("compare", old, new, "--fail-if", "tokens_per_s < -2%", "--format", "json")
    assert failed.code == 1
    assert failed.err.count("regression: tokens_per_s < -2%: ") == 2
    assert "dip · density 0.5" in failed.err
    assert json.loads(failed.out)["failed"] is True
    assert call("compare", old, new, "--fail-if", "tokens_per_s < -20%").code == 0
    several = call("compare", old, old, new, "--fail-if", "tokens_per_s < -2%", "-o", "page.md")
    assert several.code == 1
    assert (tmp_path / "page.md").read_text(encoding="utf-8").count("# run and new") <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-if", "tokens_per_sec < 1"), "did you mean tokens_per_s"),
        (("--fail-if", "acc_piqa < 0"), "to compare with"),
        (("--format", "htm"), "did you mean html"),
    ],
)
def test_what_cannot_be_compared(
    call: Call,  # noqa: F811
    old: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    called = call("compare", old, old, *arguments)
    assert called.code == 2
    assert message in called.err
    assert "Traceback" not in called.err


def test_folders_that_are_no_runs(old: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither the folder of a run nor a store"):
        run([old, tmp_path], [])
    with pytest.raises(InputError, match="two runs at least"):
        run([old], [])
