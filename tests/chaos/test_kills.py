"""Processes that are killed: the table is that of an undisturbed run, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from sweep.execution.executor import RETRIES
from sweep.store.store import Store
from tests.chaos.conftest import MakeRun, Report
from tests.chaos.page import Fault
from tests.chaos.runs import Watched, orphans, stopped_at_last
from tests.e2e.runs import repeated

SEED = 20


def kill_workers(run: Watched, times: int, seed: int) -> list[float]:
    """Kill busy workers of a run that goes on; seconds until each task had begun anew."""
    rng = random.Random(seed)
    hit: dict[str, int] = {}
    killed: list[tuple[str, float]] = []
    with stopped_at_last(run.start()) as driver:
        run.until(driver, 2)
        while len(killed) < times and driver.poll() is None:
            time.sleep(rng.uniform(0.1, 0.6))
            busy = [note for note in run.running() if hit.get(note.key, 0) < RETRIES]
            if busy:
                victim = rng.choice(busy)
                os.kill(victim.pid, signal.SIGKILL)
                hit[victim.key] = hit.get(victim.key, 0) + 1
                killed.append((victim.key, time.time()))
        code, said = run.finish(driver)
    assert code == 0, said
    assert len(killed) == times, "the run ended before all kills"
    begun = [[n.at - at for n in run.begun(key, after=at)] for key, at in killed]
    return [min(later) for later in begun if later]


def check_whole(run: Watched, table: bytes) -> None:
    """The table is the undisturbed one; no finished task ran again; nobody holds the store."""
    assert (run.out / "results.parquet").read_bytes() == table
    store = Store(run.out)
    assert len(store.records) >= 60
    assert {record.status for record in store.records.values()} == {"done"}
    assert run.run_again_after_the_end() == []
    assert repeated(run.journal) == []
    assert store.holder() == ""
    assert store.damaged == []


@pytest.mark.parametrize(
    "times", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])]
)
def test_killed_workers(times: int, watched: MakeRun, table: bytes, report: Report) -> None:
    run = watched(seconds=0.05 if times < 5 else 0.4)
    seconds = kill_workers(run, times, SEED)
    check_whole(run, table)
    tasks = len(Store(run.out).records)
    outcome = f"the tasks ran again elsewhere; same table of {tasks} tasks, none run twice"
    report(Fault("SIGKILL of a busy Ray worker", times, outcome, seconds, "until begun anew"))


def gone(marker: Path) -> float:
    """Seconds until nothing is left of a killed driver's cluster."""
    start = time.monotonic()
    while orphans(str(marker)):
        assert time.monotonic() - start < 180, "processes of the killed driver are left"
        time.sleep(0.1)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_drivers(watched: MakeRun, table: bytes, report: Report) -> None:
    rng = random.Random(SEED)
    run = watched(seconds=0.1)
    resumed = []
    for _ in range(10):
        with stopped_at_last(run.start()) as driver:
            started = time.monotonic()
            assert run.until(driver, 1)
            resumed.append(time.monotonic() - started)
            assert run.until(driver, rng.randint(0, 5))
            time.sleep(rng.uniform(0, 0.3))
            driver.kill()
            driver.communicate()
        gone(run.notes)
        assert Store(run.out).holder() == ""
    with stopped_at_last(run.start()) as driver:
        code, said = run.finish(driver)
    assert code == 0, said
    check_whole(run, table)
    outcome = "run again, it went on; same table, no finished task run twice, no lock left"
    until = "from the command to the next finished task, Ray's start included"
    report(Fault("SIGKILL of the driver", 10, outcome, resumed[1:], until))
