"""Rotations of attention: of what W_q, W_k and W_v get, and inside of each head of what W_o gets.

A head's output is a mean of its values, so that a rotation R of all values of a head comes through
to W_o: R^T W_v and W_o R, head by head, compute what W_v and W_o did, and nothing turns the hidden
state on the way. Query heads that share the values of one head share its R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import run_layers, weights_replaced
from methods.attention import Attention, attentions, weight_of
from methods.mlp import UnsupportedModelError
from methods.training import Arrays, Lesson

INPUT, VALUE = "attention-rotation", "value-rotation"

_CHECKED_TOKENS = 64
_MOST_OFF = 0.1
"""Of the size of the logits: far above rounding, far below what a rotation that does not come
through makes of them."""


@torch.no_grad()
def found(model: nn.Module, lesson: Lesson) -> Arrays:
    """Q of what W_q, W_k and W_v of layer 0 get, float32 [hidden, hidden], as
    `0.attention-rotation`, and R of its values, [heads, size, size], as `0.value-rotation`; others
    alike.

    Both hold the axes of second moments over the windows, by falling variance. Raises
    UnsupportedModelError where attention does more with values than to take means of them.
    """
    views = attentions(model)
    moments = [_Moments(heads_of(view)) for view in views]
    handles = [
        hook for view, sums in zip(views, moments, strict=True) for hook in sums.put_in(view)
    ]
    try:
        device = next(model.parameters()).device
        for window in lesson.windows:
            run_layers(model, torch.from_numpy(window)[None].to(device))
    finally:
        for handle in handles:
            handle.remove()
    arrays: Arrays = {}
    for view, sums in zip(views, moments, strict=True):
        arrays[f"{view.layer}.{INPUT}"] = _axes(sums.inputs).cpu().numpy()
        arrays[f"{view.layer}.{VALUE}"] = _axes(sums.values).cpu().numpy()
    _check(model, arrays, torch.from_numpy(lesson.windows[0][:_CHECKED_TOKENS])[None].to(device))
    return arrays


@dataclass(frozen=True, slots=True)
class Heads:
    """Of one attention: heads whose values differ, query heads of each, and their size."""

    values: int
    queries: int
    size: int


def heads_of(view: Attention) -> Heads:
    """The heads of an attention. Raises UnsupportedModelError where they cannot be told."""
    size = int(getattr(view.module, "head_dim", 0))
    rows = len(value_rows(view, weight_of(view.inputs[-1])))
    if not size or rows % size or view.width % rows:
        raise UnsupportedModelError(
            f"{view.path} ({type(view.module).__name__}) has {rows} rows of values for "
            f"{view.width} inputs of its output and heads of {size}: they "
            "cannot be rotated head by head"
        )
    return Heads(rows // size, view.width // rows, size)


def value_rows(view: Attention, last: Tensor) -> Tensor:
    """The rows of W_v in the last of the input projections, or the part of its bias."""
    if len(view.inputs) > 1:
        return last
    keys = (len(last) - view.width) // 2  # as many as of values, after those of queries
    return last[view.width + keys :]


@dataclass(slots=True)
class _Moments:
    """Sums of x x^T in float64: of what goes in, and of each head's output."""

    heads: Heads
    inputs: Tensor = field(default_factory=lambda: torch.zeros(()))
    values: Tensor = field(default_factory=lambda: torch.zeros(()))

    def put_in(self, view: Attention) -> tuple[torch.utils.hooks.RemovableHandle, ...]:
        return (
            view.inputs[0].register_forward_pre_hook(lambda _module, args: self._add(args[0])),
            view.output.register_forward_pre_hook(lambda _module, args: self._add_heads(args[0])),
        )

    def _add(self, x: Tensor) -> None:
        rows = x.reshape(-1, x.shape[-1]).double()
        self.inputs = self.inputs + rows.T @ rows

    def _add_heads(self, x: Tensor) -> None:
        heads = self.heads
        rows = x.reshape(-1, heads.values, heads.queries, heads.size).double()
        self.values = self.values + torch.einsum("tvqi,tvqj->vij", rows, rows)


def _axes(moments: Tensor) -> Tensor:
    """Eigenvectors in the columns, by falling variance, float32."""
    return torch.linalg.eigh(moments)[1].flip(-1).float()


# -- weights ---------------------------------------------------------------------------------


@torch.no_grad()
def rotated(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """W_q Q, W_k Q, R^T W_v Q and W_o R of every layer, with the biases of values, by the names of
    the model's parameters."""
    weights: dict[str, Tensor] = {}
    for view in attentions(model):
        turn, values = (
            torch.from_numpy(arrays[f"{view.layer}.{kind}"]).to(weight_of(view.output).device)
            for kind in (INPUT, VALUE)
        )
        for name, module in _inputs(view).items():
            last = module is view.inputs[-1]
            for kind, old in module.named_parameters(recurse=False):
                new = old.double() @ turn.double() if kind == "weight" else old.double().clone()
                if last:
                    _turn_values(value_rows(view, new), values.double())
                weights[f"{view.path}.{name}.{kind}"] = new.to(old.dtype)
        name = next(n for n, part in view.module.named_children() if part is view.output)
        old = weight_of(view.output)
        weights[f"{view.path}.{name}.weight"] = _by_head(old.double(), values.double()).to(
            old.dtype
        )
    return weights


def _inputs(view: Attention) -> dict[str, nn.Module]:
    """W_q, W_k and W_v, or the module that holds all three, by name."""
    ours = {id(module) for module in view.inputs}
    return {name: part for name, part in view.module.named_children() if id(part) in ours}


def _turn_values(rows: Tensor, rotations: Tensor) -> None:
    """R^T of each head, in place, to the rows [heads * size, ...] of W_v or of its bias."""
    heads, size, _ = rotations.shape
    apart = rows.reshape(heads, size, -1)
    rows.copy_((rotations.mT @ apart).reshape(rows.shape))


def _by_head(weight: Tensor, rotations: Tensor) -> Tensor:
    """W_o R, head by head: query heads of the same values lie side by side."""
    heads, size, _ = rotations.shape
    apart = weight.reshape(len(weight), heads, -1, size)
    return torch.einsum("ovqi,vij->ovqj", apart, rotations).reshape(weight.shape)


def _check(model: nn.Module, arrays: Arrays, ids: Tensor) -> None:
    """Raise UnsupportedModelError where the rotated values do not come through to W_o."""
    dense = model(input_ids=ids, use_cache=False).logits.float()
    hooks = turning(model, arrays)
    try:
        with weights_replaced(model, rotated(model, arrays)):
            turned = model(input_ids=ids, use_cache=False).logits.float()
    finally:
        for hook in hooks:
            hook.remove()
    off = float((turned - dense).norm() / dense.norm().clamp_min(1e-30))
    if not off < _MOST_OFF:
        kind = type(attentions(model)[0].module).__name__
        raise UnsupportedModelError(
            f"{kind} does more with values than to take means of them: with rotated ones logits "
            f"are off by {off:.2f} of their size; la-rosa prunes its MLPs alone, with "
            "attention: none"
        )


def turning(
    model: nn.Module, arrays: Mapping[str, NDArray[Any]]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hooks that bring what W_q, W_k and W_v get into the basis of rotated weights."""

    def turner(rotation: Tensor) -> Callable[..., tuple[Tensor]]:
        return lambda _module, args: (args[0] @ rotation.to(args[0].dtype),)

    hooks = []
    for view in attentions(model):
        rotation = torch.from_numpy(arrays[f"{view.layer}.{INPUT}"])
        turn = turner(rotation.to(weight_of(view.output).device))
        hooks += [part.register_forward_pre_hook(turn) for part in view.inputs]
    return hooks


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[Tensor, ...]:
    """Q of all layers, of what W_q, W_k and W_v get; empty where there is none."""
    layers = sum(name.endswith(f".{INPUT}") for name in arrays)
    every = (arrays[f"{layer}.{INPUT}"] for layer in range(layers))
    return tuple(torch.from_numpy(rotation).to(device) for rotation in every)
