"""One view of every attention whose queries, keys and values are linear in one input.

Separate or fused projections, grouped heads, heads whose size is not hidden / heads, biases, norms
of queries and keys: a method meets two inputs, that of W_q, W_k and W_v and that of W_o.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from methods.density import ATTENTION
from methods.mlp import UnsupportedModelError, child, decoder_layers, out_in

if TYPE_CHECKING:
    from methods.base import Method, Select

_NAMES = ("self_attn", "attention", "attn", "self_attention")
_INPUTS = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",))
_OUTPUTS = ("o_proj", "out_proj")


@dataclass(frozen=True, slots=True)
class Attention:
    """The projections of one decoder layer's attention."""

    layer: int
    path: str
    module: nn.Module
    hidden: int
    """Inputs of W_q, W_k and W_v."""
    width: int
    """Inputs of W_o: heads times the size of a head."""
    inputs: tuple[nn.Module, ...]
    """W_q, W_k and W_v, or one module that holds them all, in this order."""
    output: nn.Module
    """W_o."""

    @property
    def weights(self) -> dict[str, int]:
        """Weights of each group: of W_q, W_k and W_v, and of W_o."""
        rows = sum(out_in(module)[0] for module in self.inputs)
        return {
            "attn-input": rows * self.hidden,
            "attn-output": out_in(self.output)[0] * self.width,
        }

    def column_norms(self, group: str, order: float) -> Tensor:
        """The norm of each column of a group's matrices, one under the other, float32 [units]."""
        modules = self.inputs if group == "attn-input" else (self.output,)
        weights = [weight_of(module).detach().float() for module in modules]
        return torch.linalg.vector_norm(torch.cat(weights), ord=order, dim=0)

    def key_norms(self, order: float) -> Tensor:
        """The norm of each column of W_k alone, float32 [hidden]."""
        weight = weight_of(self.inputs[len(self.inputs) // 2]).detach().float()
        if len(self.inputs) == 1:
            keys = (
                len(weight) - self.width
            ) // 2  # as many rows as values have; first come queries
            weight = weight[self.width : self.width + keys]
        return torch.linalg.vector_norm(weight, ord=order, dim=0)


def weight_of(module: nn.Module) -> Tensor:
    """The weights [outputs, inputs] of a linear module."""
    weight: Any = module.weight
    return weight


def attentions(model: nn.Module) -> list[Attention]:
    """The attention of every decoder layer, in their order.

    Raises UnsupportedModelError, naming the class, where a layer has none, or one whose queries,
    keys and values are not linear in its input, or layers differ in size.
    """
    path, layers = decoder_layers(model)
    views = [_view(index, f"{path}.{index}", layer) for index, layer in enumerate(layers)]
    first = views[0]
    other = [v.layer for v in views if (v.hidden, v.weights) != (first.hidden, first.weights)]
    if other:
        raise UnsupportedModelError(
            f"the attention of layers {', '.join(map(str, other))} has another size than that of "
            f"layer {first.layer}; groups of attention have one number of units"
        )
    return views


def _view(index: int, path: str, layer: nn.Module) -> Attention:
    name = next((name for name in _NAMES if child(layer, name) is not None), None)
    if name is None:
        raise UnsupportedModelError(f"{path} ({type(layer).__name__}) has no attention to prune")
    module = layer.get_submodule(name)
    names = next((own for own in _INPUTS if all(child(module, n) for n in own)), None)
    output = next((child(module, name) for name in _OUTPUTS if child(module, name)), None)
    if names is None or output is None:
        parts = ", ".join(n for n, _ in module.named_children()) or "nothing"
        raise UnsupportedModelError(
            f"{path}.{name} ({type(module).__name__}) has no view: needed are projections of "
            f"queries, keys, values and of the output; it has {parts}"
        )
    inputs = tuple(module.get_submodule(own) for own in names)
    hidden = out_in(inputs[0])[1]
    return Attention(index, f"{path}.{name}", module, hidden, out_in(output)[1], inputs, output)


# -- a method in the attention of a model ----------------------------------------------------


@contextmanager
def attending(
    model: nn.Module, method: Method, select: Callable[[int], Select]
) -> Iterator[list[Attention]]:
    """The inputs of the projections are what `method` makes of them; the model is as before on
    exit. `select` gives the selector of a layer. Nothing where the method has no such group.

    Raises UnsupportedModelError for a model whose attention has no view, and at the end for one
    that did not call its projections.
    """
    if not any(group in ATTENTION for group in method.groups):
        yield []
        return
    views = attentions(model)
    with ExitStack() as stack:
        for view in views:
            stack.enter_context(attending_one(view, method.at(view.layer), select(view.layer)))
        yield views


@contextmanager
def attending_one(view: Attention, method: Method, select: Select) -> Iterator[None]:
    """The same for one layer, for the length of a `with` block."""
    probe = _Probe(view, method, select)
    before = [(part, part.__dict__.get("forward")) for part in probe.parts()]
    try:
        probe.put_in()
        yield
        probe.check_asked()
    finally:
        for part, forward in before:
            part.__dict__.pop("forward", None)
            if forward is not None:
                part.__dict__["forward"] = forward


@dataclass(slots=True)
class _Probe:
    """Stands before the projections of one attention."""

    view: Attention
    method: Method
    select: Select
    _given: Tensor | None = None
    _pruned: Tensor | None = None
    _seen: set[int] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    """`begun` once a projection was called, and what the method was asked for."""

    def parts(self) -> tuple[nn.Module, ...]:
        return (*self.view.inputs, self.view.output)

    def put_in(self) -> None:
        for index, part in enumerate(self.view.inputs):
            part.forward = partial(self._input, index, part.forward)
        self.view.output.forward = partial(self._output, self.view.output.forward)

    def _input(self, index: int, linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """W_q, W_k and W_v of one call get the same: the method is asked once for all three."""
        if not self._seen or index in self._seen:
            self._seen.clear()
            self._given, self._pruned = x, self.method.attention_input(self.view, x, self.select)
            self._asked.add("input")
        elif x is not self._given:
            raise UnsupportedModelError(
                f"{self.view.path} ({type(self.view.module).__name__}) projects queries, keys and "
                "values of different inputs; they have no mask in common"
            )
        self._seen.add(index)
        assert self._pruned is not None
        return linear(self._pruned)

    def _output(self, linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        self._seen.clear()
        self._given = self._pruned = None
        self._asked.add("output")
        return linear(self.method.attention_output(self.view, x, self.select))

    def check_asked(self) -> None:
        if self._asked not in (set(), {"input", "output"}):
            raise UnsupportedModelError(
                f"{self.view.path} ({type(self.view.module).__name__}) computes its projections "
                "without calling them; attention cannot be pruned here"
            )
