"""Put a method into a model for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from methods.base import Method
from methods.mlp import GatedMLP, gated_mlps
from methods.select import topk

if TYPE_CHECKING:
    LayerSelect = Callable[[int, str, Tensor, float], Tensor]
    """select(layer, group, scores [..., units], density) -> mask [..., units]."""


@contextmanager
def applied(
    model: nn.Module, method: Method, select: LayerSelect = topk
) -> Iterator[list[GatedMLP]]:
    """Run every MLP of `model` through `method`; the model is as before on exit.

    `select` decides the masks; it is called for each layer and group in forward order. Yields the
    views of the MLPs. Raises UnsupportedModelError before anything is changed.
    """
    views = gated_mlps(model)
    before = {view.layer: view.module.__dict__.get("forward") for view in views}
    try:
        for view in views:
            view.module.forward = partial(_forward, method, view, partial(select, view.layer))
        yield views
    finally:
        for view in views:
            _restore(view.module, before[view.layer])


def _forward(method: Method, view: GatedMLP, select: Callable[..., Tensor], x: Tensor) -> Tensor:
    return method.forward(view, x, select)


def _restore(module: nn.Module, forward: Callable[..., Tensor] | None) -> None:
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.__dict__["forward"] = forward
