"""The kinds of task, as plain functions: a worker runs them, and nothing here knows of Ray."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from sweep import plugins
from sweep.files.atomic import FULL
from sweep.tasks.task import Record, Task

NO_CUDA = "a GPU was assigned, but torch sees none: this ran on the CPU"
"""In the log of a task whose GPU was only a number: a CPU build of torch, or a logical GPU."""


def run(task: Task, inputs: tuple[Any, ...], device: str = "cpu") -> tuple[Record, Any]:
    """Do the task on `cpu` or `cuda`; returns its record and what it hands over (or None).

    `inputs` are what the tasks in `task.needs` handed over.

    An exception of the task becomes a failed record: only the loss of a worker is raised.
    """
    started = time.perf_counter()
    handover: Any = None
    infrastructure = False
    with _captured() as log:
        try:
            plugins.ensure(task.where)
            device = _usable(device)
            by_role = dict(zip(task.payload.get("inputs", {}), inputs, strict=True))
            function = _function(task, device)
            with _placed(task, device):
                result, handover = function(task.payload, task.where, by_role, device)
            status, error = "done", ""
        except Exception as failure:
            traceback.print_exc()
            result, status, error = {}, "failed", _text(f"{type(failure).__name__}: {failure}")
            infrastructure = _of_the_machine(failure)
    record = Record(
        key=task.key,
        kind=task.kind,
        label=task.label,
        status=status,
        payload=task.payload,
        result=result,
        error=error,
        infrastructure=infrastructure,
        seconds=round(time.perf_counter() - started, 4),
        ended=round(time.time(), 3),
        worker=f"{socket.gethostname()}:{os.getpid()}",
        log=_text(log.getvalue()),
    )
    return record, handover


def _usable(device: str) -> str:
    """The device, or the CPU where torch cannot use the GPU that the task was given."""
    if device != "cuda":
        return device
    import torch

    if torch.cuda.is_available():
        return device
    print(NO_CUDA)
    return "cpu"


def _placed(task: Task, device: str) -> AbstractContextManager[None]:
    """A task on a GPU finds its model there, on several of them where one does not hold it."""
    if device == "cpu":
        return contextlib.nullcontext()
    from sweep.placement.place import placed

    return placed(task.where, task.payload, device)


def _of_the_machine(failure: Exception) -> bool:
    """Whether memory or disk ran out: torch has errors of its own for that."""
    if isinstance(failure, OSError):
        return failure.errno in FULL
    short = ("MemoryError", "OutOfMemoryError")
    allocator = isinstance(failure, RuntimeError) and "can't allocate memory" in str(failure)
    return allocator or any(kind.__name__ in short for kind in type(failure).__mro__)


def _text(written: str) -> str:
    """Text that any file can hold: half a character, as of a file name, is written as an escape."""
    return written.encode("utf-8", "backslashreplace").decode()


def _function(task: Task, device: str) -> Function:
    """What does a task of this kind; a worker imports no more than the kinds that it runs."""
    of_kind = _FUNCTIONS.get(task.kind)
    if of_kind is None:
        raise ValueError(f"no kind of task is called {task.kind!r}")
    place = next(place for mark, place in of_kind if not mark or mark in task.payload)
    if place == _EVALUATE and device != "cpu" and _in_batches(task):
        place = "sweep.batched.evaluate:evaluate"
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _in_batches(task: Task) -> bool:
    """Whether a GPU evaluates several windows of it at once."""
    from sweep.batched.make import in_batches

    return in_batches(task.payload)


_EVALUATE = "sweep.tasks.evaluate:evaluate"
_FUNCTIONS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "calibrate": (
        ("routed", "sweep.routing.uses:count_uses"),
        ("coactive", "sweep.flash.coactive:order"),
        ("selector", "sweep.tasks.uses:count_uses"),
        ("", "sweep.tasks.calibrate:calibrate"),
    ),
    "evaluate": (
        ("routed", "sweep.routing.evaluate:evaluate"),
        ("priced", "sweep.flash.evaluate:evaluate"),
        ("", _EVALUATE),
    ),
    "score": (("", "sweep.tasks.score:score"),),
    "simulate": (
        ("pool", "sweep.routing.pool:pool"),
        ("preload_layers", "sweep.flash.bundles:reads"),
        ("classes", "sweep.flash.classes:reads"),
        ("reads", "sweep.tasks.reads:reads"),
        ("", "sweep.tasks.simulate:simulate"),
    ),
    "train": (
        ("study", "sweep.tasks.train_by_trials:train"),
        ("recipe", "sweep.tasks.rotated.train:train"),
        ("", "sweep.tasks.train:train"),
    ),
    "transform": (("", "sweep.tasks.transform:transform"),),
}
"""By kind of task, the function for a payload that has a key, and at last for all others."""

Function = Callable[[Any, Any, dict[str, Any], str], tuple[dict[str, Any], Any]]
"""function(payload, where, inputs by role, device) -> (result as JSON, hand-over or None).

`payload` and `where` are those of the kind (`sweep.tasks.payloads`)."""


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """What the task prints and logs, for a log of its own."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text
    finally:
        logging.getLogger().removeHandler(handler)
