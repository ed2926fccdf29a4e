"""Clusters: a head that is started by hand, jobs on it, and two nodes of which one has a GPU.

Everything is on loopback, with ports and processes of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq
import pytest
import yaml

from sweep.execution.ray_executor import NODE_DIGITS
from sweep.execution.ray_job import PACKAGES
from sweep.store.store import Store
from sweep.tasks.run import NO_CUDA
from tests.e2e.runs import ROOT, TIMEOUT, command, environment, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent
STARTS = 6
TOKEN = "0123456789abcdef0123456789abcdef"


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
    assert "tiny: 4 points, 28 tasks run" in done.stdout + done.stderr
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


def test_a_stopped_job_goes_on_where_it_was(
    head: Head, project: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = project(windows=40), tmp_path / "out"
    words = command("submit", "tiny", "--address", head.jobs, "--out", out, "--no-wait")
    sent = head.call(*words, cwd=folder)
    assert sent.returncode == 0, sent.stderr
    job = next(w.strip("'") for w in sent.stdout.split() if "raysubmit_" in w)
    journal, until = out / "journal.jsonl", time.monotonic() + TIMEOUT
    while not journal.exists() or len(journal.read_bytes().splitlines()) < 5:
        assert time.monotonic() < until
        time.sleep(0.05)
    stopped = head.call(BIN / "ray", "job", "stop", "--address", head.jobs, job, cwd=folder)
    assert stopped.returncode == 0, stopped.stderr
    logs = head.call(BIN / "ray", "job", "logs", "--address", head.jobs, job, cwd=folder)
    assert "stopped by SIGTERM; run the same command again to go on" in logs.stdout
    before = len(Store(out).records)
    assert before < 280
    assert Store(out).holder() == ""
    again = head.call(*command("submit", "tiny", "--address", head.jobs, "--out", out), cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"4 points, {280 - before} tasks run" in again.stdout + again.stderr
    assert (out / "results.parquet").read_bytes() == reference(folder, tmp_path / "one")


def test_a_head_with_tokens_wants_the_token(project: Callable[..., Path], tmp_path: Path) -> None:
    """Attached and as a job: with the token it runs, without it the refusal is one message."""
    (tmp_path / "head").mkdir()
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    started = start_head(tmp_path / "head", **given)
    head = next(started)
    try:
        folder, out = project(windows=1), tmp_path / "out"
        run = command("run", "tiny", "--address", head.address, "--out", out, "--no-report")
        done = head.call(*run, cwd=folder)
        assert done.returncode == 0, done.stderr
        new = (*run[:-3], "--out", str(tmp_path / "refused"), "--no-report")
        refused = head.call(*new, cwd=folder, RAY_AUTH_TOKEN="f" * 32)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
        submit = command("submit", "tiny", "--address", head.jobs, "--out", tmp_path / "job")
        job = head.call(*submit, cwd=folder)
        assert job.returncode == 0, job.stdout + job.stderr
    finally:
        started.close()


# -- two nodes ---------------------------------------------------------------------------------


@pytest.mark.timeout(1500)  # two nodes start workers on a machine that may be busy
def test_accuracy_goes_to_the_gpu_and_simulation_elsewhere(
    project: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is only a number here: torch sees none, so the CPU computes, and a note says so."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")  # a busy machine is slow
    folder, out = project(), tmp_path / "out"
    quiet = {"num_cpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=quiet)
    try:
        gpu = cluster.add_node(num_cpus=1, num_gpus=1)
        attached = ("run", "tiny", "--address", str(cluster.address), "--no-report")
        words = command(*attached, "--out", out)
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        asked = ["--set", "sweeps.tiny.resources={evaluate: {gpu: 2}}", "--out", tmp_path / "no"]
        much = command(*attached, *asked)
        refused = subprocess.run(
            much, cwd=folder, env=environment(), capture_output=True, text=True, timeout=2 * TIMEOUT
        )
    finally:
        cluster.shutdown()
    assert refused.returncode == 3, refused.stderr
    asked = r"evaluate, score ask for 1 CPU and 2 GPU, .* each, but no machine of the Ray"
    assert re.search(asked, refused.stderr), refused.stderr
    nodes: dict[str, list[str]] = {}
    for record in Store(out).records.values():
        nodes.setdefault(record.kind, []).append(record.worker.partition("@")[2])
    assert set(nodes["evaluate"]) == {gpu.node_id[:NODE_DIGITS]}
    elsewhere = [node for node in nodes["simulate"] if node != gpu.node_id[:NODE_DIGITS]]
    assert len(elsewhere) > len(nodes["simulate"]) / 2
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["status"] for row in table} == {"done"}
    import torch

    if not torch.cuda.is_available():
        notes = json.loads((out / "provenance.json").read_text())["notes"]
        assert f"16 tasks: {NO_CUDA}" in notes
        assert (out / "results.parquet").read_bytes() == reference(folder, tmp_path / "one")
