"""Put a method, or other weights, into a model for the length of a `with` block."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.agreement import agreeing_mlps
from methods.attention import attending
from methods.base import Method
from methods.mlp import GatedMLP, Passing, decoder_layers
from methods.select import topk

if TYPE_CHECKING:
    LayerSelect = Callable[[int, str, Tensor, float], Tensor]
    """select(layer, group, scores [..., units], share) -> mask [..., units]."""


@contextmanager
def applied(
    model: nn.Module, method: Method, select: LayerSelect = topk
) -> Iterator[list[GatedMLP]]:
    """Run every MLP of `model`, and if it has groups there its attention, through `method`; the
    model is as before on exit.

    `select` decides the masks; it is called for each layer and group in forward order. Yields the
    views of the MLPs. Raises UnsupportedModelError before anything is changed: for MLPs that are
    not gated, for those that compute more than the equation (`methods.agreement`), and for
    attention that has no view (`methods.attention`).
    """
    views = agreeing_mlps(model)
    by_layer = [method.at(view.layer) for view in views]
    before = {view.layer: view.module.__dict__.get("forward") for view in views}
    try:
        for view, own in zip(views, by_layer, strict=True):
            view.module.forward = partial(_forward, own, view, _of_layer(select, view.layer))
        with (
            attending(model, method, partial(_of_layer, select)),
            _watched_blocks(model, views[0].passing) if method.reads_blocks else nullcontext(),
        ):
            yield views
    finally:
        for view in views:
            _restore(view.module, before[view.layer])


def run_layers(model: nn.Module, tokens: Tensor) -> None:
    """Run the model on tokens [1, tokens] for what its layers do.

    Of the logits, which may take more memory than all else, the last token's alone are made where
    the family knows how.
    """
    few = "logits_to_keep" in inspect.signature(model.forward).parameters
    model(input_ids=tokens, use_cache=False, **({"logits_to_keep": 1} if few else {}))


def _of_layer(select: LayerSelect, layer: int) -> Callable[..., Tensor]:
    """What a method calls: `select`, and `pruned` if the selector has it, for one layer."""
    bound = partial(select, layer)
    in_one_pass = getattr(select, "pruned", None)
    if in_one_pass is not None:
        vars(bound)["pruned"] = partial(in_one_pass, layer)
    return bound


def _forward(method: Method, view: GatedMLP, select: Callable[..., Tensor], x: Tensor) -> Tensor:
    if not view.layer:
        view.passing.notes.clear()
    return method.forward(view, x, select)


@contextmanager
def _watched_blocks(model: nn.Module, passing: Passing) -> Iterator[None]:
    """Keeps in `passing` what decoder layers get."""

    def before(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        passing.block_input = args[0] if args else kwargs["hidden_states"]

    _, layers = decoder_layers(model)
    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        passing.block_input = None


def _restore(module: nn.Module, forward: Callable[..., Tensor] | None) -> None:
    module.__dict__.pop("forward", None)
    if forward is not None:
        module.__dict__["forward"] = forward


@contextmanager
def weights_replaced(
    model: nn.Module, weights: Mapping[str, Tensor | NDArray[np.generic]]
) -> Iterator[None]:
    """Give parameters of `model`, by name, other values; the model is as before on exit.

    Values are tensors or arrays of any float type; a uint16 array holds the bits of bfloat16. They
    are brought to the type and device of the parameter, without a copy where they have them.
    Raises ValueError, before anything is changed, for a name or a shape that the model lacks.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    given = {name: _fitting(name, value, parameters) for name, value in weights.items()}
    before = {name: parameters[name].data for name in given}
    try:
        for name, value in given.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in before.items():
            parameters[name].data = value


def weight_array(weight: Tensor) -> NDArray[np.generic]:
    """A weight as an array that `weights_replaced` takes; bfloat16, unknown to numpy, as bits."""
    weight = weight.detach().cpu().contiguous()
    if weight.dtype == torch.bfloat16:
        return weight.view(torch.uint16).numpy()
    return weight.numpy()


def _fitting(
    name: str, value: Tensor | NDArray[np.generic], parameters: Mapping[str, nn.Parameter]
) -> Tensor:
    if name not in parameters:
        raise ValueError(f"the model has no parameter {name!r}")
    old = parameters[name]
    new = value if isinstance(value, Tensor) else _tensor(value)
    if new.shape != old.shape:
        raise ValueError(f"{name} is {tuple(old.shape)} in the model, not {tuple(new.shape)}")
    return new.to(old.device, old.dtype)


def _tensor(array: NDArray[np.generic]) -> Tensor:
    """The array's own memory as a tensor; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # shared memory may be read-only
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
