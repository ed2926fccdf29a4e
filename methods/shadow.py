"""The network of `shadow-llm`: what matters in all layers, from the input of the first MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied
from methods.density import kept_units
from methods.dynamic.dense import Dense
from methods.mlp import GatedMLP, gated_mlps
from methods.predictors import predictor
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.base import Select

TARGET_SHARE = 0.1
"""Of each token and layer, the neurons that matter most, which the network learns to find."""
BATCH = 64
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class _Traced(Dense):
    """The dense model, with the activations of its MLPs kept for their gradients."""

    inputs: list[Tensor] = field(default_factory=list)
    activations: list[Tensor] = field(default_factory=list)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        if not mlp.layer:
            self.inputs.append(x.detach())
        glu = mlp.glu(x)
        if not glu.requires_grad:
            glu.requires_grad_()
        glu.retain_grad()
        self.activations.append(glu)
        return mlp.down(glu)


def examples(model: nn.Module, windows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Inputs of the first MLP [tokens, hidden], and of each token and layer the units that matter
    most by abs(A ∂L/∂A), int16 or int32 [tokens, layers, k]."""
    device = next(model.parameters()).device
    inputs, matter = [], []
    for window in windows:
        tokens = torch.from_numpy(window)[None].to(device)
        traced = _Traced()
        with torch.enable_grad(), applied(model, traced):
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
            loss = nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum")
            gradients = torch.autograd.grad(loss, traced.activations)
        inputs.append(traced.inputs[0][0].float())
        pairs = zip(traced.activations, gradients, strict=True)
        matter.append(torch.stack([_largest(a.detach()[0] * g[0]) for a, g in pairs], dim=1))
    return torch.cat(inputs), torch.cat(matter)


def _largest(products: Tensor) -> Tensor:
    k = kept_units(TARGET_SHARE, products.shape[-1])
    found = products.abs().topk(k, dim=-1).indices
    return found.to(torch.int16 if products.shape[-1] < 2**15 else torch.int32)


def train(
    model: nn.Module, lesson: Lesson, width: int, epochs: int
) -> tuple[dict[str, Any], Arrays]:
    """The network with the least validation loss, as float16 arrays, and its recall by layer."""
    units, layers = (view := gated_mlps(model)[0]).intermediate, len(gated_mlps(model))
    learn, held = (examples(model, part) for part in lesson.split())
    device = learn[0].device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lesson.seed)
        net = predictor(view.hidden, width, layers * units).to(device)
    adam = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    best, least = _state(net), _loss(net, *held, units)
    with torch.enable_grad():
        for epoch in range(1, epochs + 1):
            order = torch.Generator().manual_seed(lesson.seed * 1_000_003 + epoch * 7919)
            for rows in torch.randperm(len(learn[0]), generator=order).to(device).split(BATCH):
                adam.zero_grad()
                _bce(net, learn[0][rows], learn[1][rows], units).backward()
                adam.step()
            loss = _loss(net, *held, units)
            lesson.log(f"epoch {epoch}: validation loss {loss:.5f}")
            if loss < least:
                best, least = _state(net), loss
    recalls = _recalls(load(best, str(device)), *held, units)
    return {"recall": float(np.mean(recalls)), "recall_by_layer": recalls, "loss": least}, best


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> nn.Module:
    """The network in float32."""
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    width, hidden = state["0.weight"].shape
    net = predictor(hidden, width, len(state["2.bias"]))
    net.load_state_dict(state)
    return net.requires_grad_(False).to(device)


def _state(net: nn.Module) -> Arrays:
    return {name: value.detach().cpu().half().numpy() for name, value in net.state_dict().items()}


def _targets(matter: Tensor, units: int) -> Tensor:
    """1.0 where a unit matters, [tokens, layers * units]."""
    hot = torch.zeros(*matter.shape[:2], units, device=matter.device)
    return hot.scatter_(-1, matter.long(), 1.0).flatten(1)


def _bce(net: nn.Module, x: Tensor, matter: Tensor, units: int) -> Tensor:
    logits = net(x)
    return nn.functional.binary_cross_entropy_with_logits(logits, _targets(matter, units))


@torch.no_grad()
def _loss(net: nn.Module, x: Tensor, matter: Tensor, units: int) -> float:
    parts = zip(x.split(BATCH), matter.split(BATCH), strict=True)
    return sum(float(_bce(net, a, b, units)) * len(a) for a, b in parts) / len(x)


@torch.no_grad()
def _recalls(net: nn.Module, x: Tensor, matter: Tensor, units: int) -> list[float]:
    """By layer, the share of what matters that is among as many largest logits."""
    found, k = torch.zeros(matter.shape[1]), matter.shape[2]
    for rows, wanted in zip(x.split(BATCH), matter.split(BATCH), strict=True):
        logits = net(rows).unflatten(-1, (-1, units))
        largest = torch.zeros_like(logits).scatter_(-1, logits.topk(k, dim=-1).indices, 1.0)
        hits = largest.gather(-1, wanted.long())
        found += hits.mean(dim=-1).sum(dim=0).cpu()
    return (found / len(x)).tolist()
