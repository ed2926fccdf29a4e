"""Calibration text through a decoder, one layer at a time: what GPTQ does to bound its memory.

Held at a time: the hidden states of the text, and the statistics and new weights of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.apply import run_layers, weights_replaced
from methods.mlp import gated_mlps
from methods.static.quantiser import Statistic


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoder layer, where it is in the model, and the linear layers in it by path."""

    path: str
    mlp_path: str
    module: nn.Module
    linears: Mapping[str, nn.Linear]

    def in_mlp(self, path: str) -> bool:
        """Whether the linear layer at this path belongs to the MLP."""
        return path.startswith(f"{self.mlp_path}.")


Change = Callable[[Layer, str, Tensor | None], Tensor | None]
"""change(layer, path of a linear, statistic) -> the new weight, or None where it stays as it is."""
Needs = Callable[[Layer, str], Statistic]
"""What `change` must know of the inputs of the linear layer at this path."""


def decoder_layers(model: nn.Module) -> list[Layer]:
    """The layers of the text decoder in order. Raises UnsupportedModelError as `gated_mlps`."""
    found = []
    for view in gated_mlps(model):
        path = view.path.rpartition(".")[0]
        module = model.get_submodule(path)
        parts = ((f"{path}.{name}", part) for name, part in module.named_modules())
        linears = {name: part for name, part in parts if isinstance(part, nn.Linear)}
        found.append(Layer(path, view.path, module, linears))
    return found


@torch.inference_mode()
def changed_layers(
    model: nn.Module, windows: Sequence[Tensor], needs: Needs, change: Change
) -> Iterator[tuple[str, Tensor]]:
    """(parameter name, new weight) for each linear layer that `change` changes, in layer order.

    `windows` are token ids [1, tokens] of equal length. A layer sees what the changed layers below
    it make of them. The model is as before after each step of the iteration.
    """
    layers = decoder_layers(model)
    if all(needs(layer, path) == "nothing" for layer in layers for path in layer.linears):
        for layer in layers:
            yield from _changed(layer, {}, change).items()
        return
    states, calls = _first_inputs(model, [layer.module for layer in layers], windows)
    for layer, call in zip(layers, calls, strict=True):
        with _collected(layer, needs) as statistics:
            for state in states:
                call(state)
        new = _changed(layer, statistics, change)
        yield from new.items()
        with weights_replaced(model, new):
            states = [call(state) for state in states]


def _changed(layer: Layer, statistics: Mapping[str, Tensor], change: Change) -> dict[str, Tensor]:
    new = {f"{path}.weight": change(layer, path, statistics.get(path)) for path in layer.linears}
    return {name: weight for name, weight in new.items() if weight is not None}


# -- how the model calls its layers ----------------------------------------------------------


class _ReachedError(Exception):
    """The forward pass has come to the first layer."""


def _first_inputs(
    model: nn.Module, layers: Sequence[nn.Module], windows: Sequence[Tensor]
) -> tuple[list[Tensor], list[Callable[[Tensor], Tensor]]]:
    """Inputs [1, tokens, hidden] of the first layer, and each layer as a function of its input.

    What else a layer is given (mask, positions, rotary embedding of its kind) is the same for all
    windows, for they are equally long; it is taken down in one pass, without a KV cache.
    """
    calls: list[Callable[[Tensor], Tensor]] = []

    def take_down(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(_call(module, args[1:], kwargs))

    with _hooked(layers, take_down):
        run_layers(model, windows[0])
    states: list[Tensor] = []

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0])
        raise _ReachedError

    with _hooked(layers[:1], stop):
        for window in windows:
            try:
                model(input_ids=window, use_cache=False)
            except _ReachedError:
                continue
    return states, calls


def _call(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    def call(state: Tensor) -> Tensor:
        result = module(state, *args, **kwargs)
        return result[0] if isinstance(result, tuple) else result

    return call


@contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [m.register_forward_pre_hook(hook, with_kwargs=True) for m in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# -- statistics of inputs --------------------------------------------------------------------


@contextmanager
def _collected(layer: Layer, needs: Needs) -> Iterator[Mapping[str, Tensor]]:
    """Statistics by path, float32, summed over all that the layer is run on in the block."""
    sums: dict[str, Tensor] = {}
    handles = []
    for path, linear in layer.linears.items():
        need = needs(layer, path)
        if need != "nothing":
            hook = _summing(sums, path, need)
            handles.append(linear.register_forward_pre_hook(hook))
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def _summing(sums: dict[str, Tensor], path: str, need: Statistic) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].reshape(-1, args[0].shape[-1]).float()  # [tokens, columns]
        added = x.T @ x if need == "moments" else x.square().sum(0)
        sums[path] = sums[path] + added if path in sums else added

    return hook
