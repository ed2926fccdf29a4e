"""Whether what a training made is of the model that it is put into."""

from __future__ import annotations

from torch import nn

from methods.base import MethodError
from methods.mlp import gated_mlps


def check_predictor(
    name: str, model: nn.Module, hidden: int, units: int, layers: int | None = None
) -> None:
    """Raise MethodError for a predictor of another model's sizes: what it reads, what it tells of
    a layer, and of how many layers, where it is one net a layer or one for all."""
    views = gated_mlps(model)
    here = (views[0].hidden, views[0].intermediate, len(views))
    given = (hidden, units, len(views) if layers is None else layers)
    if given != here:
        words = "hidden {:,}, intermediate {:,}, {:,} layers"
        raise MethodError(
            f"the predictor of {name} is of a model of another size ({words.format(*given)}); this "
            f"one has {words.format(*here)}: train it on this model"
        )
