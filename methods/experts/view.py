"""One view of every layer of routed experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from methods.experts.families import FAMILIES, NOWHERE, Family
from methods.mlp import UnsupportedModelError, child, decoder_layers


@dataclass(frozen=True, slots=True)
class RoutedLayer:
    """The router and the experts of one decoder layer."""

    index: int
    """Its place among the layers that have experts."""
    layer: int
    path: str
    router: nn.Module
    experts: nn.Module
    family: Family

    @property
    def count(self) -> int:
        """Experts of the layer."""
        return int(_parameter(self.experts, "down_proj").shape[0])

    @property
    def chosen(self) -> int:
        """Experts that a token uses."""
        top_k: Any = self.router.top_k
        return int(top_k)

    @property
    def hidden(self) -> int:
        """Inputs of an expert."""
        return int(_parameter(self.experts, "down_proj").shape[1 + self.transposed])

    @property
    def intermediate(self) -> int:
        """Neurons of an expert."""
        return int(_parameter(self.experts, "down_proj").shape[2 - self.transposed])

    @property
    def transposed(self) -> bool:
        """Whether a matrix is stored as [inputs, outputs]."""
        return bool(getattr(self.experts, "is_transposed", False))


@dataclass(frozen=True, slots=True)
class Event:
    """The tokens of one sequence at one layer of experts, as its router sees them."""

    view: RoutedLayer
    hidden: Tensor
    """What the router got, [tokens, hidden]."""
    logits: Tensor
    scores: Tensor
    """By which the router chooses, float32 [tokens, experts]; -inf where it may not."""
    stock: Tensor
    """The router's own choice, bool [tokens, experts]."""

    def shares(self, chosen: Tensor) -> Tensor:
        """The weights of chosen experts (bool [tokens, experts]) over their sum, 0 for others."""
        experts, valid = by_score(self.scores, chosen)
        weights = self.view.family.weights(self.view.router, self.logits, experts, valid)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        return torch.zeros_like(self.scores).scatter_add_(1, experts, weights)


Choose = Callable[[Event], Tensor | None]
"""choose(event) -> which experts each token uses, bool [tokens, experts]; None leaves the router's
own choice."""


def routed_layers(model: nn.Module) -> list[RoutedLayer]:
    """The layers with routed experts, in layer order.

    Raises UnsupportedModelError, naming the family, for models whose experts have no view.
    """
    kind = model_type(model)
    family = FAMILIES.get(kind)
    if family is None:
        raise UnsupportedModelError(
            f"the experts of {kind or type(model).__name__} have no view; those of "
            f"{', '.join(FAMILIES)} have one"
        )
    path, layers = decoder_layers(model)
    views: list[RoutedLayer] = []
    for number, layer in enumerate(layers):
        block = child(layer, family.block)
        experts = block and child(block, "experts")
        router = block and child(block, family.router)
        if router is not None and experts is not None:
            place = f"{path}.{number}.{family.block}"
            views.append(RoutedLayer(len(views), number, place, router, experts, family))
    if not views:
        raise UnsupportedModelError(f"no layer of this {kind} has routed experts")
    return views


def model_type(model: nn.Module) -> str:
    """The family's name in the configuration of the text model; empty where there is none."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return str(getattr(text, "model_type", ""))


def by_score(scores: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen experts [tokens, most] by falling score, ties to the lower one, and where these
    are valid: a token with fewer has its first one again."""
    order = scores.masked_fill(~chosen, NOWHERE).argsort(dim=-1, descending=True, stable=True)
    counts = chosen.sum(dim=-1, keepdim=True)
    order = order[:, : int(counts.max())]
    valid = torch.arange(order.shape[1], device=order.device) < counts
    return torch.where(valid, order, order[:, :1]), valid


def _parameter(module: nn.Module, name: str) -> Tensor:
    parameter: Any = getattr(module, name)
    return parameter
