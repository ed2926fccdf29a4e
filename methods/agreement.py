"""Whether a model's MLPs are what the view of them says, and no more.

Methods compute `W_down (W_up x * act(W_gate x))` from a module's parts, which are taken by their
names. A module may do more in its own forward: Falcon-H1 multiplies its halves, others norm,
scale or drop. So each MLP is asked once, with random inputs, whether it computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import Tensor, nn

from methods.mlp import GatedMLP, UnsupportedModelError, gated_mlps

ROWS = 4
"""Random tokens that each MLP is tried with."""
SEED = 20261125
TOLERANCE = 16
"""Largest difference, in units of the last place of the model's type, over the output's size."""

_AGREED: WeakSet[nn.Module] = WeakSet()


def agreeing_mlps(model: nn.Module) -> list[GatedMLP]:
    """The views of `gated_mlps`, each tried against its module once in the model's life.

    Raises UnsupportedModelError, naming the layer, for a module that computes anything else, and
    for layers of different size. The state of torch's own random numbers is left alone.
    """
    views = gated_mlps(model)
    check_sizes(views)
    if model not in _AGREED:
        for view in views:
            check_agrees(view)
        _AGREED.add(model)
    return views


def check_sizes(views: Sequence[GatedMLP]) -> None:
    """Raise UnsupportedModelError where layers differ in size: groups have one number of units."""
    first = views[0]
    other = [v for v in views if (v.hidden, v.intermediate) != (first.hidden, first.intermediate)]
    if other:
        layers = ", ".join(str(view.layer) for view in other)
        sizes = ", ".join(map(str, sorted({view.intermediate for view in other})))
        raise UnsupportedModelError(
            f"layers {layers} have another intermediate size ({sizes}) than layer {first.layer} "
            f"({first.intermediate}); only `dense` runs on a model whose MLPs differ in size"
        )


@torch.no_grad()
def check_agrees(view: GatedMLP) -> None:
    """Raise UnsupportedModelError unless the module computes what the view does.

    A module without values (on the meta device) is passed over, and so is one whose own output is
    not finite: that it has no use shows in its loss.
    """
    weight = next(view.module.parameters())
    if weight.device.type == "meta":
        return
    generator = torch.Generator().manual_seed(SEED + view.layer)
    x = torch.randn(1, ROWS, view.hidden, generator=generator).to(weight.device, weight.dtype)
    with _evaluating(view.module):
        own = _own_output(view, x)
        difference = (view.down(view.glu(x)) - own).float().norm()
    size = own.float().norm()
    if size.isfinite() and not difference <= TOLERANCE * torch.finfo(own.dtype).eps * size:
        raise UnsupportedModelError(
            f"{view.path} ({type(view.module).__name__}) computes more than a gated MLP: on random "
            f"inputs its output differs from W_down (W_up x * act(W_gate x)) by "
            f"{float(difference / size):.2g} of its size; only `dense` runs on this model"
        )


def _own_output(view: GatedMLP, x: Tensor) -> Tensor:
    """What the module's class computes; a method that is applied just now is not asked."""
    try:
        own = type(view.module).forward(view.module, x)
    except TypeError as error:
        raise UnsupportedModelError(
            f"{view.path} ({type(view.module).__name__}) needs more than its input: {error}"
        ) from None
    if not isinstance(own, Tensor) or own.shape != x.shape:
        kind = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
        raise UnsupportedModelError(
            f"{view.path} ({type(view.module).__name__}) gives {kind} for an input of "
            f"{tuple(x.shape)}"
        )
    return own


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout while a model is trained."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
