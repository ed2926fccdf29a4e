"""The command line as a user runs it, and as one stops it."""

from __future__ import annotations

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 240

Make = Callable[..., Path]
"""write_sweep(**changes) -> the file that was written."""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sweep", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def sweep(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def stopped(
    *arguments: str | Path, cwd: Path, journal: Path, by: signal.Signals, after: int
) -> subprocess.CompletedProcess[str]:
    """Run the command line and send a signal once the journal has `after` lines."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + TIMEOUT
    while len(done_keys(journal)) < after and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(by)
    out, err = process.communicate(timeout=TIMEOUT)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has, all different."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def done_keys(journal: Path) -> list[str]:
    """Keys of the whole lines of a journal, in order."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    return [json.loads(line)["record"]["key"] for line in lines]


def repeated(journal: Path) -> list[str]:
    """Keys that have more than one line."""
    counts = collections.Counter(done_keys(journal))
    return [key for key, count in counts.items() if count > 1]
