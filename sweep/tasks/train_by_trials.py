"""Training tasks whose method asks a study for trials: as `train`, with Optuna's TPE at hand.

The study is in memory. The losses of its trials are in the training's checkpoint, and the same
losses make it ask the same again, so a training that was killed goes on with the trial it was at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from methods.block_search import Span, TrialLesson
from methods.registry import create
from methods.training import Arrays
from sweep.files.cache import training_dir
from sweep.spec import spaces
from sweep.studies.ask_tell import AskedTrial, Search, Told
from sweep.tasks.prelude import changed_model, text_windows
from sweep.tasks.train import FileCheckpoint

if TYPE_CHECKING:
    from sweep.tasks.payloads import Train, TrainWhere


def train(
    payload: Train, where: TrainWhere, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """What the training found out, and hands over the arrays that it made."""
    method = create(payload["method"], payload["density"], **payload["parameters"])
    checkpoint = FileCheckpoint(training_dir() / f"{where['checkpoint']}.npz")
    lesson = TrialLesson(
        windows=text_windows(payload, where, slice(payload["windows"]), calibration=True),
        seed=payload["seed"],
        checkpoint=checkpoint,
        log=checkpoint.say,
        make_study=TPEStudy,
    )
    with changed_model(payload, where, inputs, device) as model:
        result, arrays = method.train(model, lesson)
    checkpoint.drop()
    return result | {"trained_tokens": int(lesson.windows.size)}, arrays


class TPEStudy:
    """A study in memory that looks for the least loss (`methods.block_search.Study`)."""

    def __init__(self, spans: Mapping[str, Span], first: Mapping[str, float], seed: int) -> None:
        space = {name: spaces.Span(*span) for name, span in spans.items()}
        self._search = Search(None, "trials", space, ["minimize"], "tpe", seed, [dict(first)])
        self._asked: list[AskedTrial] = []

    def ask(self) -> dict[str, float]:
        """What to try next."""
        self._asked = self._search.ask(1)
        return self._asked[0].parameters

    def tell(self, loss: float) -> None:
        """What came of what was asked last."""
        self._search.tell(self._asked[0], Told(values=(loss,)))
