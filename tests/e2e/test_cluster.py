"""A head that is started by hand, and jobs on it: by `sweep submit`, and by Ray itself.

Everything is on loopback, with ports and processes of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from sweep.store import Store
from sweep.submit import PACKAGES
from tests.e2e.runs import ROOT, TIMEOUT, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
STARTS = 6


@dataclass(frozen=True)
class Head:
    """A running head: where tasks attach, where jobs are submitted, and the environment of both."""

    address: str
    jobs: str
    environment: dict[str, str]

    def call(self, *words: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


def free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def start_head(place: Path, **variables: str) -> Generator[Head, None, None]:
    """`ray start --head --block`; ended by ending it, which ends what it started."""
    own = {**environment(), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **variables}
    own |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
    own["RAY_raylet_start_wait_time_s"] = "120"  # a busy machine is slow
    own.pop("RAY_ADDRESS", None)
    with (place / "head.log").open("w") as log:
        process, made = _started(own, log, place)
        try:
            yield made
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _started(
    own: dict[str, str], log: IO[str], place: Path
) -> tuple[subprocess.Popen[bytes], Head]:
    """A head that answers; Ray gives up after half a minute, so it is tried again."""
    for _ in range(STARTS):
        port, dashboard, client, agent, grpc, metrics = free_ports(6)
        words = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=true"]
        words += [f"--port={port}", f"--dashboard-port={dashboard}"]
        words += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
        words += [f"--dashboard-agent-grpc-port={grpc}", f"--metrics-export-port={metrics}"]
        words += ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        process = subprocess.Popen([str(BIN / "ray"), *words], env=own, stdout=log, stderr=log)
        made = Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", own)
        while process.poll() is None:
            listed = made.call(BIN / "ray", "job", "list", "--address", made.jobs, cwd=place)
            if listed.returncode == 0:
                return process, made
            time.sleep(1)
    raise AssertionError((place / "head.log").read_text())


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    yield from start_head(tmp_path_factory.mktemp("head"), RAY_AUTH_MODE="disabled")


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path, tiny_text: str) -> Callable[..., Path]:
    """A folder under git with a sweep file in it; `project(windows=…)` changes the sweep."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "project"
        folder.mkdir()
        half = len(tiny_text) // 2
        for name, part in (("a.txt", tiny_text[:half]), ("b.txt", tiny_text[half:])):
            (tmp_path / name).write_text(part)
        body = {
            "models": [str(tiny_llama)],
            "methods": ["dense", {"method": "dip", "density": [0.5, 0.7, 0.9]}],
            "devices": [{"device": "apple-a18", "dram_gb": 0.0001}],
            "policies": ["lru", "belady"],
            "text": str(tmp_path / "a.txt"),
            "calibration": str(tmp_path / "b.txt"),
            "windows": 4,
            "window_tokens": 64,
            **changes,
        }
        (folder / "sweeps.yaml").write_text(yaml.safe_dump({"sweeps": {"tiny": body}}))
        git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
        for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "a sweep")):
            subprocess.run([*git, *words], cwd=folder, check=True)
        return folder

    return make


def revision(folder: Path) -> str:
    words = ["git", "rev-parse", "HEAD"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True).stdout.strip()


def reference(project: Path, out: Path) -> bytes:
    """The table of the same sweep in one process."""
    words = command("run", "tiny", "--out", out, "--workers", "0", "--no-report")
    subprocess.run(words, cwd=project, env=environment(), check=True, capture_output=True)
    return (out / "results.parquet").read_bytes()


# -- jobs --------------------------------------------------------------------------------------


def test_a_submitted_sweep_is_fetched_back(
    head: Head, project: Callable[..., Path], tmp_path: Path
) -> None:
    """To a URL; its log is followed, its report and revision come back."""
    folder, url = project(), f"file://{tmp_path}/there/run"
    words = command("submit", "tiny", "--address", head.jobs, "--out", url)
    done = head.call(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tiny: 7 points, 40 tasks run" in done.stdout + done.stderr
    back = tmp_path / "back"
    pulled = head.call(*command("pull", url, back), cwd=folder)
    assert pulled.returncode == 0, pulled.stderr
    assert "<html" in (back / "report.html").read_text()
    assert (back / "results.parquet").read_bytes() == reference(folder, tmp_path / "one")
    about = json.loads((back / "provenance.json").read_text())
    assert about["git"] == {"sha": revision(folder), "dirty": None}
    assert {"@" in r.worker for r in Store(back).records.values()} == {True}


def test_a_job_of_ray_itself_runs_a_sweep(
    head: Head, project: Callable[..., Path], tmp_path: Path
) -> None:
    """`ray job submit --working-dir . -- python -m sweep run NAME`, from a checkout."""
    folder, out = project(), tmp_path / "out"
    for package in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=leave)
    submit = (BIN / "ray", "job", "submit", "--address", head.jobs, "--working-dir", ".")
    run = ("python", "-m", "sweep", "run", "tiny", "--no-report")
    lost = head.call(*submit, "--", *run, cwd=folder)
    assert lost.returncode != 0
    assert "temporary copy of the working directory" in lost.stdout + lost.stderr
    done = head.call(*submit, "--", *run, "--out", out, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "results.parquet").read_bytes() == reference(folder, tmp_path / "one")
