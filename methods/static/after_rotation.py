"""Quantisation of rotated weights: W Q is rounded, and its statistics are of rotated inputs.

Rotating what is quantised already would give weights of no format. So the rotation is found on the
model's own weights, and a quantiser works on the model that has the rotated ones in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import head_rotations
from methods.apply import weights_replaced
from methods.mlp import gated_mlps, projections
from methods.rounded import named
from methods.static.inputs import on_device
from methods.static.recipe import Recipe, changed_weights
from methods.training import Arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from methods.base import Method


def rounded(
    model: nn.Module,
    method: Method,
    arrays: Arrays,
    windows: NDArray[np.int64],
    recipe: Recipe,
) -> Arrays:
    """What `recipe` makes of the weights that `method` has rotated, as arrays of its training.

    `arrays` are of the training of the method; `windows` are token ids [windows, tokens].
    What the recipe leaves alone of rotated weights is kept too.
    """
    before = method.weights(model, arrays)
    with weights_replaced(model, before), turned_inputs(model, arrays):
        after = dict(changed_weights(model, on_device(model, windows), recipe))
    return named(before | after)


@contextmanager
def turned_inputs(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> Iterator[None]:
    """What W_gate and W_up get, and W_q, W_k and W_v where they are rotated, is brought into the
    basis of the rotated weights; what hooks of later see is in that basis."""
    with ExitStack() as stack:
        for view in gated_mlps(model):
            rotation = torch.from_numpy(arrays[f"{view.layer}.rotation"])
            names = projections(view.module)
            for name in dict.fromkeys((names["gate"], names["up"])):
                part = view.module.get_submodule(name)
                hook = part.register_forward_pre_hook(_turner(rotation))
                stack.callback(hook.remove)
        if f"0.{head_rotations.INPUT}" in arrays:
            for hook in head_rotations.turning(model, arrays):
                stack.callback(hook.remove)
        yield


def _turner(rotation: Tensor) -> Callable[..., tuple[Tensor]]:
    return lambda _module, args: (args[0] @ rotation.to(args[0].device, args[0].dtype),)
