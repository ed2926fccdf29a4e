"""Tasks that note when they begin and end, and answer from the journal of an undisturbed run.

The driver is told of it by RAY_RUNTIME_ENV_HOOK, its workers by their setup hook, so all but what a
task computes is the program as it is. A task checks that it is given what its inputs handed over.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

NOTES, SECONDS, ANSWERS = "CHAOS_NOTES", "CHAOS_SECONDS", "CHAOS_ANSWERS"
LETTERS = 4096
"""Size of what a task hands over: its key, again and again."""


def environment(notes: Path, seconds: float, answers: Path) -> dict[str, str]:
    """Variables of a driver whose tasks are noted in a folder and take this long."""
    return {
        NOTES: str(notes),
        SECONDS: str(seconds),
        ANSWERS: str(answers),
        "RAY_RUNTIME_ENV_HOOK": "tests.chaos.hook.noting",
        "RAY_worker_niceness": "0",
    }


def noting(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """The runtime environment of the driver, whose workers note their tasks."""
    return {**(runtime_env or {}), "worker_process_setup_hook": "tests.chaos.hook.install"}


def install() -> None:
    """From now on, tasks of this process are noted and answered."""
    from sweep.tasks import run as tasks

    tasks.run = _run


def _run(task: Any, inputs: tuple[Any, ...], device: str = "cpu") -> Any:
    import numpy as np

    from sweep.tasks.task import Record

    _note("begun", task)
    time.sleep(float(os.environ[SECONDS]))
    for key, given in zip(task.needs, inputs, strict=True):
        if given["key"].tobytes().decode() != key * (LETTERS // len(key)):
            raise SystemExit(f"{task.key} was not given what {key} handed over")
    known = {**_answers()[task.key], "worker": f"{socket.gethostname()}:{os.getpid()}"}
    handover = {"key": np.frombuffer((task.key * (LETTERS // len(task.key))).encode(), np.uint8)}
    _note("ended", task)
    return Record(**known), handover


def _answers() -> dict[str, dict[str, Any]]:
    lines = Path(os.environ[ANSWERS]).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line)["record"] for line in lines]
    return {record["key"]: record for record in records}


def _note(what: str, task: Any) -> None:
    name = f"{time.time_ns()}-{what}-{os.getpid()}-{task.kind}-{task.key}"
    (Path(os.environ[NOTES]) / name).touch()
