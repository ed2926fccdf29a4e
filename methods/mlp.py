"""One view of every gated MLP: separate or fused projections, with or without biases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

_SEPARATE = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))  # Llama; LFM2
ACTIVATIONS = ("act_fn", "activation_fn", "act", "activation")
_MLP_NAMES = ("mlp", "feed_forward", "ffn")


class UnsupportedModelError(ValueError):
    """The model's MLP is not gated, or is a mixture of experts; the message names it."""


@dataclass(slots=True)
class Passing:
    """What a forward pass has made so far, for methods that look at more than an MLP's input.

    All layers of a model share one. `block_input` [..., hidden] is what the layer got whose MLP
    runs, and so what the layer before it gave; it is there for methods that say `reads_blocks`.
    `notes` are a method's own, from layer to layer; a pass begins without any.
    """

    block_input: Tensor | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatedMLP:
    """W_down (W_up x * act(W_gate x)) of one decoder layer, by calling the module's own parts.

    Where the module activates W_up x too (dReLU), what `gate_up` calls up is the activated one.

    Calling modules rather than reading weights keeps biases, adapters and quantised layers.
    """

    layer: int
    path: str
    module: nn.Module
    hidden: int
    intermediate: int
    gate_up: Callable[[Tensor], tuple[Tensor, Tensor]]  # [..., hidden] -> 2 x [..., intermediate]
    down: Callable[[Tensor], Tensor]  # [..., intermediate] -> [..., hidden]
    act: Callable[[Tensor], Tensor]
    passing: Passing = field(default_factory=Passing, compare=False)

    def glu(self, x: Tensor) -> Tensor:
        """GLU(x) of eq. 2, [..., hidden] -> [..., intermediate]."""
        gate, up = self.gate_up(x)
        gate = self.act(gate)
        # in place where no gradient needs the factors: memory is what these sizes wait for
        return gate * up if torch.is_grad_enabled() else gate.mul_(up)


def gated_mlps(model: nn.Module) -> list[GatedMLP]:
    """The gated MLPs of a causal language model's decoder, in layer order.

    Raises UnsupportedModelError, naming the class, for ungated and mixture-of-experts MLPs.
    """
    path, layers = decoder_layers(model)
    views: list[GatedMLP] = []
    passing = Passing()
    for index, layer in enumerate(layers):
        name = next((n for n in _MLP_NAMES if isinstance(getattr(layer, n, None), nn.Module)), None)
        if name is None:
            kind = type(layer).__name__
            raise UnsupportedModelError(f"{path}.{index} ({kind}) has no MLP named {_MLP_NAMES}")
        view = _view(index, f"{path}.{index}.{name}", getattr(layer, name))
        views.append(replace(view, passing=passing))
    return views


def decoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The text decoder's layers; a vision tower has `mlp` modules too, so no search by suffix."""
    get_decoder = getattr(model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else model
    for candidate in (decoder, getattr(decoder, "language_model", None), model):
        layers = getattr(candidate, "layers", None)
        if isinstance(layers, nn.ModuleList) and len(layers):
            name = next((n for n, m in model.named_modules() if m is layers), "layers")
            return name, layers
    raise UnsupportedModelError(f"{type(model).__name__} has no decoder with a list of layers")


def _view(layer: int, path: str, module: nn.Module) -> GatedMLP:
    for gate_name, up_name, down_name in _SEPARATE:
        gate, up, down = (child(module, name) for name in (gate_name, up_name, down_name))
        if gate is not None and up is not None and down is not None:
            both = _separate(gate, up, getattr(module, "up_act", None))
            return _checked(layer, path, module, both, down, up, 1)
    fused, down = child(module, "gate_up_proj"), child(module, "down_proj")
    if fused is not None and down is not None:
        halves = _fused(fused, getattr(module, "up_act", None))
        return _checked(layer, path, module, halves, down, fused, 2)
    raise UnsupportedModelError(f"{path} ({type(module).__name__}) is {_kind(module)}")


def projections(module: nn.Module) -> dict[str, str]:
    """Names of the gate, up and down projections of a gated MLP; a fused one has both names."""
    for names in _SEPARATE:
        if all(child(module, name) is not None for name in names):
            return dict(zip(("gate", "up", "down"), names, strict=True))
    return {"gate": "gate_up_proj", "up": "gate_up_proj", "down": "down_proj"}


def child(module: nn.Module, name: str) -> nn.Module | None:
    """The submodule of that name; None if it has none."""
    part = getattr(module, name, None)
    return part if isinstance(part, nn.Module) else None


def _separate(
    gate: nn.Module, up: nn.Module, up_act: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    if up_act is not None:  # dReLU: W_up x is what the activation leaves of it
        return lambda x: (gate(x), up_act(up(x)))
    return lambda x: (gate(x), up(x))


def _fused(
    gate_up: nn.Module, up_act: Callable[[Tensor], Tensor] | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = gate_up(x).chunk(2, dim=-1)  # Phi-3 and GLM: the gate half comes first
        return gate, up if up_act is None else up_act(up)

    return halves


def _checked(
    layer: int,
    path: str,
    module: nn.Module,
    gate_up: Callable[[Tensor], tuple[Tensor, Tensor]],
    down: nn.Module,
    widening: nn.Module,
    halves: int,
) -> GatedMLP:
    inner_norm = next((n for n, _ in module.named_children() if "norm" in n), None)
    if inner_norm is not None:
        raise UnsupportedModelError(
            f"{path} ({type(module).__name__}) has an inner norm {inner_norm!r}"
        )
    candidates = (getattr(module, n, None) for n in ACTIVATIONS)
    act: Any = next((a for a in candidates if callable(a)), None)
    if act is None and hasattr(module, "w1"):
        act = nn.functional.silu  # LFM2 writes it into its forward
    if act is None:
        raise UnsupportedModelError(f"{path} ({type(module).__name__}) has no activation function")
    wide, hidden = out_in(widening)
    return GatedMLP(layer, path, module, hidden, wide // halves, gate_up, down, act)


def out_in(linear: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear module."""
    if hasattr(linear, "out_features"):
        return int(linear.out_features), int(linear.in_features)  # type: ignore[arg-type]
    out, inner = linear.weight.shape  # type: ignore[union-attr]
    return int(out), int(inner)


def _kind(module: nn.Module) -> str:
    names = {n for n, _ in module.named_children()} | {n for n, _ in module.named_parameters()}
    if any(n.split(".")[0] == "experts" or "router" in n for n in names):
        return "a mixture of experts; only dense gated MLPs can be pruned here"
    if any(p.dim() == 3 for p in module.parameters(recurse=False)):
        return "a mixture of experts; only dense gated MLPs can be pruned here"
    found = ", ".join(sorted({n.split(".")[0] for n in names})) or "nothing"
    return f"not a gated MLP (it has {found}; needed are gate, up and down projections)"
