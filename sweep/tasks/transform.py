"""Transform tasks: weights that are quantised or pruned once, before anything is evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.apply import weight_array, weights_replaced
from methods.static.recipe import Recipe, changed_weights
from sweep.inputs import models, texts

Arrays = dict[str, NDArray[np.generic]]


def transform(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """Hands over the changed weights by parameter name, in the model's own type.

    The recipe works on the input `weights` if there is one, and what it leaves alone of these is
    handed over too: one hand-over is all that has been done to a model. `payload["windows"]` are
    those of the calibration text; there are none where the recipe needs no data.
    """
    torch.set_num_threads(payload["threads"])
    model = models.loaded(payload["model"], payload["dtype"], device)
    recipe = Recipe.load(payload["recipe"], payload.get("seed", 0))
    windows = _windows(payload, device)
    given: Arrays = inputs.get("weights", {})
    with weights_replaced(model, given):
        new = {name: weight_array(w) for name, w in changed_weights(model, windows, recipe)}
    result = {
        "tokens": sum(window.numel() for window in windows),
        "changed": len(new),
        "mlp_density": recipe.mlp_density(model),
    }
    return result, given | new


def _windows(payload: dict[str, Any], device: str) -> list[Tensor]:
    if not payload["windows"]:
        return []
    every = texts.windows(
        payload["text_name"], payload["model"], payload["window_tokens"], calibration=True
    )
    return [torch.from_numpy(window)[None].to(device) for window in every[payload["windows"]]]
