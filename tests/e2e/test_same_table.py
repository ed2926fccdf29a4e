"""One, two and three workers and this process give the same table; a second run does nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from tests.e2e.runs import Make, done_keys, repeated, sweep

WORKERS = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def runs() -> dict[int, Path]:
    """Run folders by number of workers, filled by the first test."""
    return {}


@pytest.fixture(scope="session")
def tiny_broken(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has no number in one place: all that is computed of it is none."""
    folder = Path(shutil.copytree(tiny_llama, tmp_path_factory.mktemp("broken") / "tiny-broken"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def file(write_sweep: Make, tiny_llama: Path, tiny_broken: Path) -> Path:
    """With a model whose rows fail, each when it is run."""
    return write_sweep(models=[str(tiny_llama), str(tiny_broken)])


@pytest.mark.parametrize("workers", WORKERS)
def test_failures_are_rows_and_the_rest_goes_on(
    workers: int, file: Path, tmp_path: Path, runs: dict[int, Path]
) -> None:
    out = tmp_path / "run"
    arguments = ("run", "tiny", "--file", file, "--out", out, "--workers", workers, "--no-report")
    done = sweep(*map(str, arguments), cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the loss of a window is nan" in done.stderr
    assert "Traceback" not in done.stderr
    runs[workers] = out
    rows = pq.read_table(out / "results.parquet").to_pylist()
    uncached, cached = 2, (2 + 2) * 3  # glu leaves no room for a cache: one point of a density
    assert len(rows) == 2 * 2 * (1 + uncached + cached + 2)
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(Path(row["model"]).name, []).append(row)
    whole, broken = by_model.values()
    assert {row["status"] for row in whole} == {"done"}
    assert {row["status"] for row in broken} == {"failed"}
    assert all("the loss of a window is nan" in row["error"] for row in broken)
    assert repeated(out / "journal.jsonl") == []


def test_tables_do_not_depend_on_the_workers(runs: dict[int, Path]) -> None:
    assert set(runs) == set(WORKERS)
    tables = {n: pq.read_table(out / "results.parquet") for n, out in runs.items()}
    for table in tables.values():
        assert table.equals(tables[0], check_metadata=True)
    contents = {(out / "results.parquet").read_bytes() for out in runs.values()}
    assert len(contents) == 1
    assert len({(out / "results.csv").read_bytes() for out in runs.values()}) == 1


def test_a_second_run_does_nothing(runs: dict[int, Path], file: Path, tmp_path: Path) -> None:
    """The failed ones are not tried again either, and still make the run a failed one."""
    out = runs[2]
    before, table = done_keys(out / "journal.jsonl"), (out / "results.parquet").read_bytes()
    arguments = ("run", "tiny", "--file", file, "--out", out, "--workers", "2", "--no-report")
    again = sweep(*arguments, cwd=tmp_path)
    assert again.returncode == 1
    assert "nothing was missing" in again.stderr
    assert done_keys(out / "journal.jsonl") == before
    assert (out / "results.parquet").read_bytes() == table


def test_failed_tasks_run_again_when_asked(
    runs: dict[int, Path], file: Path, tmp_path: Path
) -> None:
    out = runs[0]
    before = done_keys(out / "journal.jsonl")
    arguments = ("run", "tiny", "--file", file, "--out", out, "--workers", "0", "--no-report")
    again = sweep(*arguments, "--retry-failed", cwd=tmp_path)
    assert again.returncode == 1
    more = done_keys(out / "journal.jsonl")[len(before) :]
    assert len(more) == len(set(more))
    assert set(more) == set(before) - _done(out)


def _done(out: Path) -> set[str]:
    from sweep.store.store import Store

    return {key for key, record in Store(out).records.items() if record.status == "done"}
