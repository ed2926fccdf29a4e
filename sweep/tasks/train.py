"""Training tasks: what a method must learn from the calibration text before it is used.

A training that is killed goes on from its checkpoint when its task is run again, on a machine that
shares the cache folder; elsewhere it starts anew. Both give the same arrays.
"""

from __future__ import annotations

import contextlib
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from methods.registry import create
from methods.select import topk
from methods.thresholds import SELECTORS, Quantiles, ThresholdSelect
from methods.training import Arrays, Lesson
from sweep.files.cache import staged, training_dir
from sweep.tasks.prelude import changed_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import SelectorPayload, Train, TrainWhere


def train(
    payload: Train, where: TrainWhere, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """What the training found out, and hands over the arrays that it made."""
    method = create(payload["method"], payload["density"], **payload["parameters"])
    checkpoint = FileCheckpoint(training_dir() / f"{where['checkpoint']}.npz")
    lesson = Lesson(
        windows=text_windows(payload, where, slice(payload["windows"]), calibration=True),
        seed=payload["seed"],
        select=_select(payload["selector"], inputs),
        checkpoint=checkpoint,
        log=checkpoint.say,
    )
    with changed_model(payload, where, inputs, device) as model:
        result, arrays = method.train(model, lesson)
    checkpoint.drop()
    return result | {"trained_tokens": int(lesson.windows.size)}, arrays


def _select(payload: SelectorPayload, inputs: dict[str, Any]) -> Any:
    name = payload.get("name", "")
    if name in SELECTORS:
        return ThresholdSelect(Quantiles.of(inputs["calibration"]), name)
    return topk


class FileCheckpoint:
    """Arrays in a file that is replaced whole; a damaged one counts as none. A log lies beside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Arrays | None:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, arrays: Arrays) -> None:
        with staged(self.path) as target, target.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def say(self, text: str) -> None:
        """A line for the task's log, and now for who looks on (`sweep logs KEY`)."""
        print(text, flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".log").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def drop(self) -> None:
        """Forget what was saved; the store has the result from here on."""
        for path in (self.path, self.path.with_suffix(".log")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
