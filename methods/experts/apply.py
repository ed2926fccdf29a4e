"""A model whose experts are chosen by somebody else than its routers, for a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from methods.base import Method
from methods.experts.inside import forward as forward_inside
from methods.experts.view import Choose, Event, RoutedLayer, by_score, routed_layers

Routing = tuple[Tensor, Tensor, Tensor]
"""What a router gives: logits [tokens, experts], weights and experts [tokens, k]."""


@contextmanager
def routed(
    model: nn.Module, choose: Choose, inside: Method | None = None
) -> Iterator[list[RoutedLayer]]:
    """Let `choose` decide which experts tokens use, and a method what of an expert is used; the
    model is as before on exit.

    Weights of mixing are those that the router gives the chosen experts by its own scores. Where a
    choice is the router's own, its own weights are used, to the bit. One sequence at a time.
    Raises UnsupportedModelError before anything is changed.
    """
    views = routed_layers(model)
    parts = [part for view in views for part in (view.router, view.experts)]
    before = [(part, part.__dict__.get("forward")) for part in parts]
    try:
        for view in views:
            view.router.forward = partial(_route, view, view.router.forward, choose)
            if inside is not None:
                view.experts.forward = partial(forward_inside, view, inside)
        yield views
    finally:
        for part, forward_before in before:
            part.__dict__.pop("forward", None)
            if forward_before is not None:
                part.__dict__["forward"] = forward_before


def _route(
    view: RoutedLayer, forward: Callable[[Tensor], Routing], choose: Choose, hidden: Tensor
) -> Routing:
    logits, weights, experts = forward(hidden)
    scores = view.family.scores(view.router, logits)
    stock = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, experts, True)
    rows = hidden.reshape(-1, hidden.shape[-1])
    event = Event(view, rows, logits, scores, stock)
    chosen = choose(event)
    if chosen is None:
        return logits, weights, experts
    return (logits, *_mixed(event, chosen, weights, experts))


def _mixed(event: Event, chosen: Tensor, weights: Tensor, experts: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and experts of the chosen ones; those of the router where it chose the same."""
    other = (chosen != event.stock).any(dim=-1, keepdim=True)
    if not bool(other.any()):
        return weights, experts
    own, valid = by_score(event.scores, chosen)
    mixed = event.view.family.weights(event.view.router, event.logits, own, valid)
    most = max(own.shape[1], experts.shape[1])
    own, mixed = _widened(own, mixed.to(weights.dtype), most)
    experts, weights = _widened(experts, weights, most)
    return torch.where(other, mixed, weights), torch.where(other, own, experts)


def _widened(experts: Tensor, weights: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """With as many columns as `most`: the first expert again, with weight 0."""
    more = most - experts.shape[1]
    experts = torch.cat((experts, experts[:, :1].expand(-1, more)), dim=1)
    return experts, nn.functional.pad(weights, (0, more))
