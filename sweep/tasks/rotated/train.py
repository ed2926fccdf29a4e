"""Training tasks of a method that rotates weights, with their quantisation on top.

As `sweep.tasks.train`, with a `recipe` beside: what the training hands over has the quantised
weights too, which then take the place of the rotated ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from methods.registry import create
from methods.static.after_rotation import rounded
from methods.static.recipe import Recipe
from methods.training import Arrays, Lesson
from sweep.files.cache import training_dir
from sweep.tasks.prelude import changed_model, text_windows
from sweep.tasks.train import FileCheckpoint

if TYPE_CHECKING:
    from sweep.tasks.payloads import Train, TrainWhere


def train(
    payload: Train, where: TrainWhere, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """What the training found out, and hands over rotations and quantised weights."""
    assert "recipe" in payload
    method = create(payload["method"], payload["density"], **payload["parameters"])
    checkpoint = FileCheckpoint(training_dir() / f"{where['checkpoint']}.npz")
    asked = payload["recipe"]["windows"]
    windows = text_windows(payload, where, slice(max(asked, payload["windows"])), calibration=True)
    lesson = Lesson(
        windows=windows[: payload["windows"]],
        seed=payload["seed"],
        checkpoint=checkpoint,
        log=checkpoint.say,
    )
    recipe = Recipe.load(payload["recipe"], payload["recipe"]["seed"])
    with changed_model(payload, where, inputs, device) as model:
        result, arrays = method.train(model, lesson)
        made = rounded(model, method, arrays, windows[:asked], recipe)
    checkpoint.drop()
    counts = {"trained_tokens": int(lesson.windows.size), "changed": len(made)}
    return result | counts, arrays | made
