"""Predictors of large GLU activations, one for each layer (paper, sections 3.3 and 6.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import run_layers
from methods.density import kept_units
from methods.mlp import GatedMLP, gated_mlps
from methods.select import topk_mask
from methods.training import Arrays, Lesson

TARGET_SHARE = 0.1
"""Of each token, the largest abs(GLU) that a predictor learns to find."""

BATCH = 256
LEARNING_RATE = 1e-3
PATIENCE = 3
"""Epochs without a better validation loss after which training stops."""

MEMORY_BYTES = 1 << 30
"""MLP inputs that are held at a time; for larger models the text is run several times."""


def predictor(hidden: int, width: int, units: int) -> nn.Sequential:
    """h -> width -> m with ReLU; answers with logits."""
    return nn.Sequential(nn.Linear(hidden, width), nn.ReLU(), nn.Linear(width, units))


def train(
    model: nn.Module, lesson: Lesson, width: int, epochs: int
) -> tuple[dict[str, Any], Arrays]:
    """Recall and precision on validation tokens, by layer, and the predictors as float16 arrays.

    A layer that is done is in the checkpoint; one that is not is trained from its start.
    """
    views = gated_mlps(model)
    arrays = lesson.checkpoint.load() or {}
    waiting = [view for view in views if f"{view.layer}.found" not in arrays]
    if len(waiting) < len(views):
        lesson.log(f"going on after {len(views) - len(waiting)} of {len(views)} layers")
    learn, held = lesson.split()
    for some in _portions(waiting, lesson.windows.size):
        inputs = _mlp_inputs(model, some, learn), _mlp_inputs(model, some, held)
        for view in some:
            examples = [(x := part.pop(view.layer), _targets(view, x)) for part in inputs]
            arrays |= _trained(view, examples, lesson, width, epochs)
            lesson.checkpoint.save(arrays)
    found = np.stack([arrays.pop(f"{view.layer}.found") for view in views])  # [layers, 4]
    return _summary(found), arrays


def load(arrays: Mapping[str, NDArray[Any]], device: str) -> tuple[nn.Module, ...]:
    """The predictors of all layers, in float32."""
    count = 1 + max(int(name.split(".")[0]) for name in arrays)
    return tuple(_loaded(arrays, layer).to(device) for layer in range(count))


def _loaded(arrays: Mapping[str, NDArray[Any]], layer: int) -> nn.Module:
    named = {n.partition(".")[2]: a for n, a in arrays.items() if n.startswith(f"{layer}.")}
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in named.items()}
    width, hidden = state["0.weight"].shape
    net = predictor(hidden, width, len(state["2.bias"]))
    net.load_state_dict(state)
    return net.requires_grad_(False)


def _portions(views: Sequence[GatedMLP], tokens: int) -> Iterator[list[GatedMLP]]:
    """Layers whose inputs fit into memory together."""
    waiting = list(views)
    while waiting:
        room = max(1, MEMORY_BYTES // (tokens * waiting[0].hidden * 4))
        yield waiting[:room]
        waiting = waiting[room:]


def _mlp_inputs(
    model: nn.Module, views: Sequence[GatedMLP], windows: NDArray[np.int64]
) -> dict[int, Tensor]:
    """Inputs [tokens, hidden] of the MLPs of some layers of the dense model."""
    seen: dict[int, list[Tensor]] = {view.layer: [] for view in views}
    device = next(model.parameters()).device
    with torch.inference_mode(), _recorded(views, seen):
        for window in windows:
            run_layers(model, torch.from_numpy(window)[None].to(device))
    return {layer: torch.cat(parts).clone() for layer, parts in seen.items()}


@contextmanager
def _recorded(views: Sequence[GatedMLP], seen: dict[int, list[Tensor]]) -> Iterator[None]:
    def keep(layer: int):
        return lambda _module, args: seen[layer].append(args[0].reshape(-1, args[0].shape[-1]))

    hooks = [view.module.register_forward_pre_hook(keep(view.layer)) for view in views]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _targets(view: GatedMLP, x: Tensor) -> Tensor:
    """Bool [tokens, units]: the largest abs(GLU) of each token; exact zeros never are."""
    k = kept_units(TARGET_SHARE, view.intermediate)
    parts = (view.glu(rows).abs() for rows in x.split(BATCH))
    return torch.cat([topk_mask(glu, k) & (glu > 0) for glu in parts])


def _trained(
    view: GatedMLP,
    examples: list[tuple[Tensor, Tensor]],
    lesson: Lesson,
    width: int,
    epochs: int,
) -> Arrays:
    """The best predictor of a layer, and what it finds on the validation tokens."""
    (x, targets), held = examples
    seed = lesson.seed * 1_000_003 + view.layer
    net = _initial(view, width, seed).to(x.device)
    adam = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    best, best_loss, best_epoch, epoch = _state(net), _loss(net, *held), 0, 0
    for epoch in range(1, epochs + 1):
        for rows in _shuffled(len(x), seed + epoch * 7919).to(x.device).split(BATCH):
            adam.zero_grad()
            _bce(net(x[rows].float()), targets[rows]).backward()
            adam.step()
        loss = _loss(net, *held)
        if loss < best_loss:
            best, best_loss, best_epoch = _state(net), loss, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    arrays = {f"{view.layer}.{name}": array for name, array in best.items()}
    found = _found(_loaded(arrays, view.layer).to(x.device), *held)
    hits, predicted, wanted = found[:3]
    lesson.log(
        f"layer {view.layer}: best of {epoch} epochs is {best_epoch}, loss {best_loss:.4f}, "
        f"recall {hits / max(1, wanted):.3f}, precision {hits / max(1, predicted):.3f}"
    )
    return arrays | {f"{view.layer}.found": np.array(found, np.int64)}


def _initial(view: GatedMLP, width: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return predictor(view.hidden, width, view.intermediate)


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, targets.float())


@torch.no_grad()
def _loss(net: nn.Module, x: Tensor, targets: Tensor) -> float:
    rows = zip(x.split(BATCH), targets.split(BATCH), strict=True)
    return sum(float(_bce(net(a.float()), b)) * len(a) for a, b in rows) / len(x)


def _state(net: nn.Module) -> Arrays:
    return {name: value.detach().cpu().half().numpy() for name, value in net.state_dict().items()}


@torch.no_grad()
def _found(net: nn.Module, x: Tensor, targets: Tensor) -> list[int]:
    """Hits, predicted (logit > 0), wanted, and hits among as many largest logits as are wanted."""
    counts = torch.zeros(4, dtype=torch.int64)
    for rows, wanted in zip(x.split(BATCH), targets.split(BATCH), strict=True):
        logits = net(rows.float())
        largest = topk_mask(logits, kept_units(TARGET_SHARE, logits.shape[-1]))
        sets = ((logits > 0) & wanted, logits > 0, wanted, largest & wanted)
        counts += torch.tensor([int(found.sum()) for found in sets])
    return counts.tolist()


def _summary(found: NDArray[np.int64]) -> dict[str, Any]:
    """Recall and precision of logit > 0, and recall of the largest logits, from [layers, 4]."""
    hits, predicted, wanted, largest = np.maximum(found, 0).T.astype(float)
    shares = {
        "recall": (hits, wanted),
        "precision": (hits, predicted),
        "recall_of_largest": (largest, wanted),
    }
    by_layer = {f"{n}_by_layer": (a / np.maximum(b, 1)).tolist() for n, (a, b) in shares.items()}
    return {n: float(a.sum() / max(1.0, b.sum())) for n, (a, b) in shares.items()} | by_layer
