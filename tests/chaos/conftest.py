"""The sweep that faults are put into, what it gives undisturbed, and a place to report to."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep import api
from sweep.spec import file as spec
from tests.chaos.inside import Run
from tests.chaos.page import Fault
from tests.chaos.runs import Watched
from tests.e2e.conftest import calibration_file, dram_gb, write_sweep
from tests.e2e.runs import Make

__all__ = ["calibration_file", "dram_gb", "write_sweep"]

MakeRun = Callable[..., Watched]
Report = Callable[[Fault], None]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Hands a line of docs/reliability.md to whoever collects them."""
    return lambda fault: record_property("fault", asdict(fault))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The command line in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return Run(monkeypatch, capsys)


@pytest.fixture
def file(write_sweep: Make) -> Path:
    """About a hundred tasks of all the kinds that hand something over."""
    methods = ["dense", {"method": "dip", "density": {"from": 0.3, "to": 0.9, "step": 0.1}}]
    return write_sweep(methods=methods, shard_windows=1, policies=["lru", "static"])


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A run that nothing disturbed: its folder and its table as bytes."""

    out: Path
    table: bytes


@pytest.fixture(scope="session")
def kept() -> dict[Path, Undisturbed]:
    """The undisturbed run, once a test has made it."""
    return {}


@pytest.fixture
def undisturbed(file: Path, tmp_path: Path, kept: dict[Path, Undisturbed]) -> Undisturbed:
    """The sweep, run to its end in this process."""
    if not kept:
        out = tmp_path / "whole"
        options = api.Options(out, workers=0, report=False)
        sweep = spec.select(spec.load(file), "tiny")
        assert api.run(sweep, options, Console(file=io.StringIO())).exit_code == 0
        kept[out] = Undisturbed(out, (out / "results.parquet").read_bytes())
    return next(iter(kept.values()))


@pytest.fixture
def table(undisturbed: Undisturbed) -> bytes:
    """results.parquet of an undisturbed run, as bytes."""
    return undisturbed.table


@pytest.fixture
def watched(file: Path, tmp_path: Path, undisturbed: Undisturbed) -> MakeRun:
    """A function that makes a run on Ray with two workers, or with other arguments."""

    def make(*more: str, workers: int | None = 2, **settings: Any) -> Watched:
        out = tmp_path / "run"
        places = ("run", "tiny", "--file", str(file), "--out", str(out), "--no-report")
        chosen = () if workers is None else ("--workers", str(workers))
        answers = undisturbed.out / "journal.jsonl"
        return Watched(out, tmp_path / "notes", [*places, *chosen, *more], answers, **settings)

    return make
