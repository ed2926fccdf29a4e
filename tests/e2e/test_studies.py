"""Studies and searches on Ray workers: what one process finds, whatever stops them on the way."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
import yaml

from tests.e2e.runs import Make, done_keys, repeated, stopped, sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TABLES = ("results.parquet", "trials.csv")


@pytest.fixture
def study(write_sweep: Make, tiny_text: str, tmp_path: Path) -> Path:
    """A sweep file with a study for each sampler."""
    density = {"from": 0.3, "to": 0.9, "step": 0.1}
    file = write_sweep(methods=["dense", {"method": "dip", "density": density, "gamma": [0.2, 1]}])
    (tmp_path / "tuned.txt").write_text(tiny_text.swapcase())
    base = {
        "sweep": "tiny",
        "text": str(tmp_path / "tuned.txt"),
        "search": {"gamma": [0.05, 1.0], "density": [0.3, 0.95]},
        "objective": {"maximize": "tokens_per_s", "within": "50%"},
        "trials": 10,
    }
    grid = {
        **base,
        "search": {
            "gamma": {"from": 0.2, "to": 1.0, "step": 0.8},
            "density": {"from": 0.4, "to": 0.8, "step": 0.2},
        },
    }
    studies = {s: {**base, "sampler": s} for s in ("tpe", "nsga2", "gp", "random")}
    body = yaml.safe_load(file.read_text())
    body["studies"] = studies | {"grid": {**grid, "sampler": "grid"}}
    file.write_text(yaml.safe_dump(body))
    return file


def found(printed: str) -> str:
    """What was printed, but for the tokens that this very command had to run."""
    return re.sub(r"\(\d+ run now\)", "", printed)


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp", "random", "grid"])
def test_a_study_on_ray_that_is_stopped_is_that_of_one_process(
    sampler: str, study: Path, tmp_path: Path
) -> None:
    tune = ("tune", sampler, "--file", study)
    alone = sweep(*tune, "--out", tmp_path / "alone", "--workers", "0", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    out = tmp_path / "ray"
    again = (*tune, "--out", out, "--workers", "2")
    first = stopped(
        *map(str, again), cwd=tmp_path, journal=out / "journal.jsonl", by=signal.SIGTERM, after=9
    )
    assert first.returncode == 130, first.stderr
    assert "Traceback" not in first.stderr
    kept = set(done_keys(out / "journal.jsonl"))
    done = sweep(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert kept < set(done_keys(out / "journal.jsonl"))
    assert repeated(out / "journal.jsonl") == []
    assert tables(out) == tables(tmp_path / "alone")


def test_a_search_on_ray_that_is_killed_is_that_of_one_process(study: Path, tmp_path: Path) -> None:
    best = ("best", "tiny", "--search", "-b", "50%", "--file", study)
    alone = sweep(*best, "--out", tmp_path / "alone", "--workers", "0", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    out = tmp_path / "ray"
    again = (*best, "--out", out, "--workers", "2")
    first = stopped(
        *map(str, again), cwd=tmp_path, journal=out / "journal.jsonl", by=signal.SIGKILL, after=6
    )
    assert first.returncode == -signal.SIGKILL
    kept = set(done_keys(out / "journal.jsonl"))
    done = sweep(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert kept < set(done_keys(out / "journal.jsonl"))
    assert repeated(out / "journal.jsonl") == []
    assert found(done.stdout) == found(alone.stdout)
