"""Neuron methods inside experts: each expert is a gated MLP, on the tokens that are sent to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Method
from methods.experts.view import RoutedLayer
from methods.mlp import GatedMLP
from methods.select import topk


def forward(
    view: RoutedLayer, method: Method, hidden: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    """What the experts of a layer give for rows [tokens, hidden], the method in each of them.

    Masks are the k largest scores of each token in each expert; no cache of neurons is kept.
    """
    mixed = torch.zeros_like(hidden)
    for expert in experts.unique().tolist():
        rows, places = torch.where(experts == expert)
        mlp = expert_mlp(view, expert)
        out = method.forward(mlp, hidden[rows], partial(topk, view.index))
        mixed.index_add_(0, rows, (out * weights[rows, places, None]).to(mixed.dtype))
    return mixed


def expert_mlp(view: RoutedLayer, expert: int) -> GatedMLP:
    """One expert as a gated MLP."""
    module: Any = view.experts
    halves = _Halves(module, expert, view.transposed)
    act = _gpt_act(module) if hasattr(module, "limit") else module.act_fn
    path = f"{view.path}.experts.{expert}"
    sizes = (view.hidden, view.intermediate)
    return GatedMLP(view.index, path, module, *sizes, halves.gate_up, halves.down, act)


class _Halves:
    """The matrices of one expert, however the family stores them."""

    def __init__(self, module: Any, expert: int, transposed: bool) -> None:
        self._module, self._expert, self._transposed = module, expert, transposed

    def gate_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = self._linear("gate_up_proj", x)
        if getattr(self._module, "is_concatenated", True):
            gate, up = both.chunk(2, dim=-1)
            return gate, up
        gate, up = both[..., ::2], both[..., 1::2]
        limit = self._module.limit
        return gate.clamp(max=limit), up.clamp(-limit, limit) + 1

    def down(self, x: Tensor) -> Tensor:
        return self._linear("down_proj", x)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight = getattr(self._module, name)[self._expert]
        bias = getattr(self._module, f"{name}_bias", None)
        return nn.functional.linear(
            x,
            weight.T if self._transposed else weight,
            None if bias is None else bias[self._expert],
        )


def _gpt_act(module: Any) -> Any:
    return lambda gate: gate * torch.sigmoid(gate * module.alpha)
