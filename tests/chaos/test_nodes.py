"""Clusters that lose a node or their head while a driver is attached to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from sweep.store.store import Store
from tests.chaos.conftest import MakeRun, Report
from tests.chaos.page import Fault
from tests.chaos.runs import POLL_SECONDS, TIMEOUT, Watched, stopped_at_last
from tests.chaos.test_kills import check_whole
from tests.e2e.runs import ROOT, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SMALL = {"RAY_max_direct_call_object_size": "100"}
"""Traces of a tiny model are small, and would travel with the results; so they stay on nodes."""


class Nodes:
    """Ray nodes of this machine, each a process group that can be lost."""

    def __init__(self, variables: dict[str, str]) -> None:
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self.folder = Path("/tmp") / f"chaos-{os.getpid()}-{self.port}"  # sockets want short paths
        path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        self.environment = {**os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "disabled"}
        self.environment |= {"RAY_USAGE_STATS_ENABLED": "0"} | variables

    def head(self) -> list[psutil.Process]:
        place = ("--head", "--port", str(self.port), "--include-dashboard", "false")
        return self._start(*place, "--temp-dir", str(self.folder))

    def node(self) -> list[psutil.Process]:
        return self._start("--address", self.address)

    def _start(self, *arguments: str) -> list[psutil.Process]:
        """`ray start`; returns the processes that it left running."""
        before = {process.pid for process in self.processes()}
        ray = Path(sys.executable).parent / "ray"
        common = ("--num-cpus", "1", "--object-store-memory", "100000000", "--disable-usage-stats")
        command = [str(ray), "start", *arguments, *common]
        error = ""
        for _ in range(5):  # Ray gives up after half a minute where the machine is busy
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, check=False
            )
            started = [process for process in self.processes() if process.pid not in before]
            if done.returncode == 0:
                return started
            kill(started)
            error = done.stderr
        raise AssertionError(error)

    def processes(self) -> list[psutil.Process]:
        return [p for p in psutil.process_iter() if str(self.folder) in _command_line(p)]

    def stop(self) -> None:
        kill(self.processes())
        shutil.rmtree(self.folder, ignore_errors=True)


def _command_line(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, and to all that they started."""
    family = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            family += process.children(recursive=True)
    for process in family:
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def cluster(variables: dict[str, str]) -> Iterator[Nodes]:
    nodes = Nodes(variables)
    try:
        yield nodes
    finally:
        nodes.stop()


def test_lost_nodes(watched: MakeRun, table: bytes, report: Report, tmp_path: Path) -> None:
    run = watched(workers=None, seconds=0.3, extra=dict(SMALL))
    run.notes.mkdir()
    seconds, losses = [], 2
    with cluster(run.variables) as nodes:
        nodes.head()
        second = nodes.node()
        run.arguments += ["--address", nodes.address]
        with stopped_at_last(run.start()) as driver:
            for _ in range(losses):
                assert run.until(driver, 4)
                _until_it_holds_a_trace(run, second, driver)
                interrupted = _running_on(run, second)
                kill(second)
                lost_at = time.time()
                second = nodes.node()
                seconds += _begun_anew(run, interrupted, lost_at)
            code, said = run.finish(driver)
    assert code == 0, said
    check_whole(run, table)
    assert _most_begun(run) <= 1 + losses
    until = "until begun anew" if seconds else "in the same run"
    remade = _remade(run)
    lost = "no trace that was still needed was lost with it"  # a busy machine kills too late
    if remade:
        lost = f"{remade} traces that were lost with it were made again once each"
    outcome = f"a new node took over; {lost}; same table"
    report(Fault("loss of one of two nodes", losses, outcome, seconds, until))


def _running_on(run: Watched, node: list[psutil.Process]) -> set[str]:
    own = {child.pid for p in node for child in [p, *_children(p)]}
    return {note.key for note in run.running() if note.pid in own}


def _until_it_holds_a_trace(
    run: Watched, node: list[psutil.Process], driver: subprocess.Popen[str]
) -> None:
    """Wait for a trace on a node that is still needed: its simulations have not all ended."""
    answers = [json.loads(line)["record"] for line in run.answers.read_text().splitlines()]
    simulated = {
        key
        for record in answers
        if record["kind"] == "simulate"
        for key in record["payload"]["inputs"].values()
    }
    end = time.monotonic() + TIMEOUT
    while driver.poll() is None and time.monotonic() < end:
        own = {child.pid for p in node for child in [p, *_children(p)]}
        ended = {n.key for n in run.noted() if n.what == "ended" and n.pid in own}
        if (ended & simulated) - set(run.look()):
            return
        time.sleep(POLL_SECONDS)
    raise AssertionError("no trace was made on the node")


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _begun_anew(run: Watched, keys: set[str], after: float) -> list[float]:
    """Seconds from a loss until each task had begun again."""
    end = time.monotonic() + TIMEOUT
    while not keys <= {note.key for note in run.begun(after=after)}:
        assert time.monotonic() < end
        run.look()
        time.sleep(0.1)
    return [min(n.at for n in run.begun(key, after=after)) - after for key in keys]


def _most_begun(run: Watched) -> int:
    return max(len(run.begun(key)) for key in {note.key for note in run.begun()})


def _remade(run: Watched) -> int:
    """Evaluations that had ended and began again before their simulations were written."""
    ended = {}
    again = 0
    for note in run.noted():
        if note.kind == "evaluate" and note.what == "begun" and note.key in ended:
            again += 1
        if note.what == "ended":
            ended[note.key] = note.at
    return again


def test_a_restarted_head(watched: MakeRun, table: bytes, report: Report) -> None:
    run = watched(workers=None, seconds=0.3)
    run.notes.mkdir()
    with cluster(run.variables) as nodes:
        head = nodes.head()
        run.arguments += ["--address", nodes.address]
        with stopped_at_last(run.start()) as driver:
            assert run.until(driver, 8)
            kill(head)
            lost = time.monotonic()
            nodes.head()
            code, said = run.finish(driver)
            noticed = time.monotonic() - lost
        assert code == 130, said
        assert "stopped by the loss of the Ray head at " in said
        assert "run the same command again to go on" in said
        assert "Traceback" not in said
        assert Store(run.out).holder() == ""
        before = len(run.look())
        with stopped_at_last(run.start()) as driver:
            code, said = run.finish(driver)
    assert code == 0, said
    assert len(run.look()) > before
    check_whole(run, table)
    outcome = "exit 130 with one message; run again, it went on; same table"
    report(Fault("restart of the head", 1, outcome, [noticed], "until said"))
