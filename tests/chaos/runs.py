"""A run of the command line that is watched while faults are put into it.

Its tasks take a moment and answer from the journal of an undisturbed run (tests/chaos/hook.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos import hook
from tests.e2e.runs import command, environment

TIMEOUT = 900
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Note:
    """That a task began or ended, in which process and when (seconds since 1970)."""

    at: float
    what: str
    pid: int
    kind: str
    key: str


@dataclass(slots=True)
class Watched:
    """A run folder, its journal as it grows, and the notes of the tasks."""

    out: Path
    notes: Path
    arguments: list[str]
    answers: Path
    seconds: float = 0.2
    extra: dict[str, str] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)
    """When each key was first seen in the journal."""

    @property
    def journal(self) -> Path:
        return self.out / "journal.jsonl"

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment of the driver and of the nodes."""
        return hook.environment(self.notes, self.seconds, self.answers) | self.extra

    def start(self) -> subprocess.Popen[str]:
        """The driver, in a session of its own."""
        self.notes.mkdir(exist_ok=True)
        return subprocess.Popen(
            command(*self.arguments),
            cwd=self.notes.parent,
            env=environment() | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, driver: subprocess.Popen[str], lines: int) -> bool:
        """Wait until the journal has so many lines more than now; False if the driver ended."""
        goal, end = len(self.look()) + lines, time.monotonic() + TIMEOUT
        while len(self.look()) < goal:
            if driver.poll() is not None:
                return False
            assert time.monotonic() < end, "the run does not go on"
            time.sleep(POLL_SECONDS)
        return True

    def finish(self, driver: subprocess.Popen[str]) -> tuple[int, str]:
        """Watch the run to its end; its exit code and what it said."""
        end = time.monotonic() + TIMEOUT
        while driver.poll() is None:
            assert time.monotonic() < end, "the run does not end"
            self.look()
            time.sleep(POLL_SECONDS)
        out, err = driver.communicate()
        self.look()
        return driver.returncode, out + err

    def look(self) -> dict[str, float]:
        """Keys of the journal, and when each was first seen there."""
        if self.journal.exists():
            now = time.time()
            for line in self.journal.read_bytes().split(b"\n")[:-1]:
                self.written.setdefault(json.loads(line)["record"]["key"], now)
        return self.written

    def noted(self) -> list[Note]:
        """All that was noted, in order."""
        found = []
        for name in sorted(os.listdir(self.notes)):
            at, what, pid, kind, key = name.split("-")
            found.append(Note(int(at) / 1e9, what, int(pid), kind, key))
        return found

    def running(self) -> list[Note]:
        """Tasks that have begun, in processes that are there."""
        last = {note.pid: note for note in self.noted()}
        there = [n for n in last.values() if n.what == "begun" and psutil.pid_exists(n.pid)]
        return [n for n in there if n.key not in self.look()]

    def begun(self, key: str = "", after: float = 0.0) -> list[Note]:
        """When tasks (or one) began, after a moment."""
        notes = [note for note in self.noted() if note.what == "begun" and note.at > after]
        return [note for note in notes if not key or note.key == key]

    def run_again_after_the_end(self) -> list[Note]:
        """Tasks that began although their record was in the journal: there may be none."""
        return [n for n in self.begun() if n.at > self.written.get(n.key, float("inf"))]


def orphans(marker: str) -> list[psutil.Process]:
    """Processes whose environment has this text: what a killed driver left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and marker in process.environ().get(hook.NOTES, ""):
                found.append(process)
        except psutil.Error:
            continue
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def stopped_at_last(driver: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A driver that does not outlive its test."""
    try:
        yield driver
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.communicate()
