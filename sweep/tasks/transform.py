"""Transform tasks: weights that learn another activation, or are quantised or pruned once, before
anything is evaluated."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.apply import weight_array
from methods.static.recipe import Recipe, changed_weights
from sweep.tasks.prelude import changed_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Transform, Where

Arrays = dict[str, NDArray[np.generic]]

LEARNING = "methods.activation_training"


def transform(
    payload: Transform, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """Hands over the changed weights by parameter name, in the model's own type.

    The recipe works on the input `weights` if there is one, and what it leaves alone of these is
    handed over too: one hand-over is all that has been done to a model. `payload["windows"]` are
    those of the calibration text; there are none where the recipe needs no data.
    """
    windows = _windows(payload, where, device)
    if "activation" in payload["recipe"]:
        return _learnt(payload, where, windows, device)
    recipe = Recipe.load(payload["recipe"], payload.get("seed", 0))
    before: Arrays = inputs.get("weights", {})
    with changed_model(payload, where, inputs, device) as model:
        new = {name: weight_array(w) for name, w in changed_weights(model, windows, recipe)}
    result = {
        "tokens": sum(window.numel() for window in windows),
        "changed": len(new),
        "mlp_density": recipe.mlp_density(model),
    }
    return result, before | new


def _learnt(
    payload: Transform, where: Where, windows: list[Tensor], device: str
) -> tuple[dict[str, Any], Arrays]:
    """The weights of the MLPs, float32, that have learnt the activation of the recipe."""
    training = import_module(LEARNING)  # by name: its code counts where a recipe asks for it
    asked = payload["recipe"]
    learn, held = training.split(windows, asked["held"])
    with changed_model(payload, where, {}, device) as model:
        return training.learnt(
            model, asked["activation"], learn, asked["tokens"], payload.get("seed", 0), held
        )


def _windows(payload: Transform, where: Where, device: str) -> list[Tensor]:
    if "window_tokens" not in payload:  # the recipe needs no data
        return []
    windows = text_windows(payload, where, payload["windows"], calibration=True)
    return [torch.from_numpy(window)[None].to(device) for window in windows]
