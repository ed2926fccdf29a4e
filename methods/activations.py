"""Another activation in the place of a model's own, so that most of what it makes is exactly zero.

    relu     W_down (relu(W_gate x) * W_up x)          Mirzadeh et al. 2023, arXiv 2310.04564
    drelu    W_down (relu(W_gate x) * relu(W_up x))    Song et al. 2024, arXiv 2406.05955
    relu2    W_down (relu(W_gate x)^2 * W_up x)        Zhang et al. 2024, arXiv 2402.03804

Put in without training, each ruins a model that was trained with SiLU or GELU: the weights have to
learn it (`methods.activation_training`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from methods.agreement import agreeing_mlps
from methods.base import MethodError
from methods.mlp import ACTIVATIONS, GatedMLP, gated_mlps, projections

OWN = "none"
"""The name for a model's own activation."""


class ReLUSquared(nn.Module):
    """max(0, x)^2 of each element."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


_GATE: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "drelu": nn.ReLU,
    "relu2": ReLUSquared,
}
_UP: Mapping[str, Callable[[], nn.Module]] = {"drelu": nn.ReLU}


def check(activation: str) -> None:
    """Raise MethodError for an activation that no model can be given."""
    if activation not in _GATE:
        raise MethodError(f"unknown activation {activation!r} (known: {', '.join(_GATE)})")


@contextmanager
def swapped(model: nn.Module, activation: str) -> Iterator[None]:
    """Every MLP of `model` with `activation`; the model is as before on exit.

    Raises MethodError for an activation that does not exist, and UnsupportedModelError, before
    anything is changed, for MLPs that are not gated or compute more than the equation.
    """
    check(activation)
    views = agreeing_mlps(model)
    with ExitStack() as stack:
        for view in views:
            stack.enter_context(_attributes(view.module, _attributes_of(view.module, activation)))
        for view in gated_mlps(model):  # which read the attributes
            stack.enter_context(_attributes(view.module, {"forward": partial(_forward, view)}))
        yield


def put(model: nn.Module, activation: str) -> None:
    """As `swapped`, for good."""
    check(activation)
    for view in agreeing_mlps(model):
        for name, value in _attributes_of(view.module, activation).items():
            setattr(view.module, name, value)
    for view in gated_mlps(model):
        vars(view.module)["forward"] = partial(_forward, view)


def _forward(view: GatedMLP, x: Tensor) -> Tensor:
    """What no module's own forward need know: a second activation, or another one than it wrote."""
    return view.down(view.glu(x))


def _attributes_of(module: nn.Module, activation: str) -> dict[str, Any]:
    """Attributes of an MLP from which `gated_mlps` reads its activations."""
    name = next((n for n in ACTIVATIONS if callable(getattr(module, n, None))), ACTIVATIONS[0])
    new: dict[str, Any] = {name: _GATE[activation]()}
    if activation in _UP:
        new["up_act"] = _UP[activation]()
    elif callable(getattr(module, "up_act", None)):  # of a model that comes with dReLU
        new["up_act"] = None
    return new


@contextmanager
def _attributes(module: nn.Module, new: Mapping[str, Any]) -> Iterator[None]:
    """A module with other attributes, of its own and not of its class; as before on exit."""
    inside = (vars(module), module._modules)
    before = [(own, name, own[name]) for name in new for own in inside if name in own]
    for name, value in new.items():
        if name in vars(module):
            del vars(module)[name]
        setattr(module, name, value)
    try:
        yield
    finally:
        for name in new:
            for own in inside:
                own.pop(name, None)
        for own, name, value in before:
            own[name] = value


class Zeros:
    """How many of the activations are exactly zero, over layers and tokens."""

    def __init__(self) -> None:
        self.zeros = 0
        self.values = 0

    @property
    def share(self) -> float:
        return self.zeros / self.values if self.values else 0.0

    def _add(self, glu: Tensor) -> None:
        self.zeros += int((glu == 0).sum())
        self.values += glu.numel()


@contextmanager
def counted_zeros(model: nn.Module) -> Iterator[Zeros]:
    """Count zeros among GLU(x), what W_down of each MLP is given, in all that runs in the block.

    The down projection is called once for each input, so this is for a model that runs densely.
    """
    zeros = Zeros()
    downs = [
        view.module.get_submodule(projections(view.module)["down"]) for view in gated_mlps(model)
    ]
    hooks = [
        down.register_forward_pre_hook(lambda _module, args: zeros._add(args[0])) for down in downs
    ]
    try:
        yield zeros
    finally:
        for hook in hooks:
            hook.remove()
