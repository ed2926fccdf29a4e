"""What the inputs of MLP matrices are like, while a text passes a decoder layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import weight_array, weights_replaced
from methods.static.stream import Layer, _first_inputs, decoder_layers
from methods.training import Arrays

States = list[Tensor]
"""Hidden states [1, tokens, hidden] of the windows of a text, at one place of the decoder."""
Call = Callable[[Tensor], Tensor]
"""A decoder layer as a function of a window's hidden state."""
Remake = Callable[[Layer, Mapping[str, "Inputs"]], Mapping[str, Tensor]]
"""remake(layer, inputs of its MLP matrices by path) -> new weights by parameter name."""


@dataclass(slots=True)
class Inputs:
    """Sums over all inputs x [columns] that a matrix was given, in float64."""

    tokens: int
    windows: int
    sums: Tensor
    """Of x, [columns]."""
    squares: Tensor
    """Of x squared, [columns]."""
    within: Tensor
    """Of squares of x less the mean of its window, [columns]."""
    moments: Tensor | None
    """Of x'x, [columns, columns] in float32; None where nobody asked for it."""

    @classmethod
    def none(cls, columns: int, moments: bool, device: torch.device) -> Inputs:
        """Of nothing yet."""
        zero = torch.zeros(columns, dtype=torch.float64, device=device)
        both = torch.zeros(columns, columns, device=device) if moments else None
        return cls(0, 0, zero, zero.clone(), zero.clone(), both)

    def add(self, x: Tensor) -> None:
        """The inputs [tokens, columns] of one window."""
        wide = x.double()
        self.tokens += len(x)
        self.windows += 1
        self.sums += wide.sum(0)
        self.squares += wide.square().sum(0)
        self.within += (wide - wide.mean(0)).square().sum(0)
        if self.moments is not None:
            self.moments += x.float().T @ x.float()


def mlp_weights(layer: Layer) -> dict[str, nn.Linear]:
    """The linear layers of a decoder layer's MLP by path."""
    return {path: linear for path, linear in layer.linears.items() if layer.in_mlp(path)}


def entered(model: nn.Module, windows: Sequence[Tensor]) -> tuple[list[Layer], States, list[Call]]:
    """The decoder layers, what enters the first of them, and each as a function."""
    layers = decoder_layers(model)
    states, calls = _first_inputs(model, [layer.module for layer in layers], windows)
    return layers, states, calls


@torch.no_grad()
def remade_layers(
    model: nn.Module, windows: Sequence[Tensor], moments: bool, remake: Remake
) -> Iterator[tuple[str, Tensor]]:
    """(parameter name, new weight) of all MLPs, in layer order; the model stays as it is.

    A layer sees what the new layers below it make of `windows`, token ids [1, tokens] of equal
    length; in its MLP inputs are those of its own weights unchanged, as the sources have it.
    """
    layers, states, calls = entered(model, windows)
    for layer, call in zip(layers, calls, strict=True):
        with watched(layer, moments) as inputs:
            for state in states:
                call(state)
        new = remake(layer, inputs)
        yield from new.items()
        with weights_replaced(model, new):
            states = [call(state) for state in states]


@contextmanager
def watched(layer: Layer, moments: bool = False) -> Iterator[Mapping[str, Inputs]]:
    """Inputs of the MLP's matrices by path, summed over all that the layer is run on."""
    inputs: dict[str, Inputs] = {}
    handles = []
    for path, linear in mlp_weights(layer).items():
        inputs[path] = Inputs.none(linear.in_features, moments, linear.weight.device)
        handles.append(linear.register_forward_pre_hook(_adding(inputs[path])))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _adding(inputs: Inputs) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.add(args[0].reshape(-1, args[0].shape[-1]))

    return hook


def as_arrays(model: nn.Module, weights: Mapping[str, Tensor]) -> Arrays:
    """New weights by parameter name in the model's own types, as arrays."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: weight_array(w.to(parameters[name].dtype)) for name, w in weights.items()}


def on_device(model: nn.Module, windows: Iterable[NDArray[np.int64]]) -> list[Tensor]:
    """Windows [tokens] of ids as the model takes them, [1, tokens]."""
    device = next(model.parameters()).device
    return [torch.from_numpy(np.ascontiguousarray(w))[None].to(device) for w in windows]
