"""Tasks for tests of executors and drivers, without a model: what they do is their payload."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from sweep.keys import digest
from sweep.tasks import run as tasks
from sweep.tasks.run import Task


def act(payload: dict[str, Any], inputs: dict[str, Any], device: str) -> tuple[dict[str, Any], Any]:
    """Count this attempt, then do what the payload says."""
    attempts = _attempts(payload)
    if payload["do"] == "raise":
        raise ValueError("this task fails by itself")
    if payload["do"] == "exhaust":
        raise MemoryError("no room")
    if payload["do"] == "die" or (payload["do"] == "die once" and attempts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if payload["do"] == "print":
        print("a line of its own")
    if payload["do"] == "meet":
        _meet(payload)
    time.sleep(payload.get("seconds", 0.0))
    total = payload.get("number", 0) + sum(int(given["numbers"].sum()) for given in inputs.values())
    return {"total": total, "device": device, "roles": sorted(inputs)}, {
        "numbers": np.array([total])
    }


def _attempts(payload: dict[str, Any]) -> int:
    """How often the task has been begun, this time included."""
    place = Path(payload["place"]) / payload["name"]
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{time.time_ns()}-{os.getpid()}").touch()
    return len(list(place.iterdir()))


def _meet(payload: dict[str, Any]) -> None:
    """Return when all `others` have begun; fail after half a minute."""
    until = time.monotonic() + 30
    while not all(begun(name, Path(payload["place"])) for name in payload["others"]):
        if time.monotonic() > until:
            raise TimeoutError("the others never came")
        time.sleep(0.02)


def make(name: str, place: Path, do: str = "add", kind: str = "evaluate", **payload: Any) -> Task:
    """A task of this name that leaves a file in `place` each time it is begun."""
    body = {"name": name, "do": do, "place": str(place), **payload}
    return Task(kind, digest([kind, body]), body, name)


def begun(name: str, place: Path) -> int:
    """How often the task has been begun."""
    folder = place / name
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def install() -> None:
    """From now on, tasks of every kind in this process act as their payload says."""
    tasks._function = lambda kind: act
