"""Tasks without a model, for trials of executors and drivers: what they do is their payload.

`install` is to be called in every process that runs them: a worker of an executor calls it once,
as in Ray's `worker_process_setup_hook`. Tasks of a sweep go on as ever in such a process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sweep.keys import digest
from sweep.tasks import run as tasks
from sweep.tasks.task import Task

DEED = "deed"
"""In a payload: what to do. Nothing in particular (`add`), `print`, `raise`, `exhaust` memory,
`meet` the others, or, where a worker may be lost, `die` or `die once`."""
MEETING_SECONDS = 30


def make(name: str, marks: Path, do: str = "add", kind: str = "evaluate", **payload: Any) -> Task:
    """A task of this name that leaves a file in `marks` each time it is begun."""
    body = {"name": name, DEED: do, "place": str(marks), **payload}
    return Task(kind, digest([kind, body]), body, name)


def begun(name: str, marks: Path) -> int:
    """How often the task has been begun."""
    folder = marks / name
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def begin(name: str, marks: Path) -> None:
    """Note that the task, or whoever is met under this name, has begun once more."""
    folder = marks / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{time.time_ns()}-{os.getpid()}").touch()


def install() -> None:
    """From now on, tasks in this process that were made here act as their payload says."""
    of_the_sweep = tasks._function

    def function(task: Task, device: str) -> tasks.Function:
        def acting_or_not(
            payload: dict[str, Any], where: dict[str, str], inputs: dict[str, Any], device: str
        ) -> tuple[dict[str, Any], Any]:
            if DEED in payload:
                return _act(payload, inputs, device)
            return of_the_sweep(task, device)(payload, where, inputs, device)

        return acting_or_not

    tasks._function = function


@contextmanager
def installed() -> Iterator[None]:
    """`install` for a while."""
    before = tasks._function
    install()
    try:
        yield
    finally:
        tasks._function = before


def _act(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """Count this attempt, do the deed, and hand over the number plus all that was given."""
    marks = Path(payload["place"])
    begin(payload["name"], marks)
    match payload[DEED]:
        case "raise":
            raise ValueError("this task fails by itself")
        case "exhaust":
            raise MemoryError("no room")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if begun(payload["name"], marks) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "print":
            print("a line of its own")
        case "meet":
            _meet(payload["others"], marks)
    time.sleep(payload.get("seconds", 0.0))
    sums = {role: int(value["numbers"].sum()) for role, value in inputs.items()}
    total = payload.get("number", 0) + sum(sums.values())
    result = {"total": total, "device": device, "given": sums}
    if gpus := _visible_gpus():
        result["gpus"] = gpus
    return result, {"numbers": np.array([total])}


def _visible_gpus() -> list[str]:
    """The GPUs that this process was given."""
    return [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]


def _meet(others: list[str], marks: Path) -> None:
    """Return when all others have begun."""
    until = time.monotonic() + MEETING_SECONDS
    while not all(begun(name, marks) for name in others):
        if time.monotonic() > until:
            raise TimeoutError("the others never came")
        time.sleep(0.02)
