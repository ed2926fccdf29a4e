"""A run that is stopped, however, goes on where it was: no finished task is done twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweep.store.store import Store
from tests.e2e.runs import Make, done_keys, repeated, stopped, sweep


@pytest.fixture
def file(write_sweep: Make) -> Path:
    """About a hundred tasks, so that one signal after a few of them finds many to come."""
    methods = ["dense", {"method": "dip", "density": {"from": 0.3, "to": 0.9, "step": 0.1}}]
    return write_sweep(methods=methods, shard_windows=1, policies=["lru", "static"])


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, bytes]:
    """The table of a run that nobody stopped, once a test has made it."""
    return {}


def run(file: Path, out: Path, workers: int) -> list[str]:
    arguments = ("run", "tiny", "--file", file, "--out", out, "--workers", workers, "--no-report")
    return [str(argument) for argument in arguments]


CASES = (
    pytest.param(signal.SIGTERM, 0, id="SIGTERM in process"),
    pytest.param(signal.SIGKILL, 0, id="SIGKILL in process"),
    pytest.param(signal.SIGINT, 2, id="SIGINT on Ray"),
)


@pytest.mark.parametrize(("by", "workers"), CASES)
def test_a_stopped_run_goes_on_where_it_was(
    by: signal.Signals, workers: int, file: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    if not undisturbed:
        whole = tmp_path / "whole"
        assert sweep(*run(file, whole, 0), cwd=tmp_path).returncode == 0
        undisturbed["table"] = (whole / "results.parquet").read_bytes()
    out = tmp_path / "run"
    journal = out / "journal.jsonl"
    first = stopped(*run(file, out, workers), cwd=tmp_path, journal=journal, by=by, after=6)
    kept = done_keys(journal)
    assert 6 <= len(kept) < 80
    if by == signal.SIGKILL:
        assert first.returncode == -signal.SIGKILL
    else:
        assert first.returncode == 130, first.stderr
        assert f"stopped by {by.name}; run the same command again to go on" in first.stderr
        assert "Traceback" not in first.stderr
        states = pq.read_table(out / "results.parquet")["status"].to_pylist()
        assert "missing" in states
    status = sweep("status", out, cwd=tmp_path)
    assert "not running; run the same command again to go on" in status.stdout

    again = sweep(*run(file, out, workers), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert done_keys(journal)[: len(kept)] == kept
    assert repeated(journal) == []
    assert all(record.status == "done" for record in Store(out).records.values())
    assert (out / "results.parquet").read_bytes() == undisturbed["table"]
    assert "finished" in sweep("status", out, cwd=tmp_path).stdout


def test_two_drivers_of_one_store_are_kept_apart(file: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "run"):
        second = sweep(*run(file, tmp_path / "run", 0), cwd=tmp_path)
    assert second.returncode == 2
    assert "is in use by process" in second.stderr
    assert "Traceback" not in second.stderr
    assert done_keys(tmp_path / "run" / "journal.jsonl") == []
