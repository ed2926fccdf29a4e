"""The rounds of LoSA: which weights go, and adapters that learn under the mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import weights_replaced
from methods.static.allotted import RELEASED_RANK, importances, layer_sparsities
from methods.static.inputs import (
    as_arrays,
    entered,
    mlp_weights,
    on_device,
    watched,
)
from methods.static.pattern import of_rows
from methods.static.stream import decoder_layers
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.static.losa import LoSA

SCALE = 2.0
"""Factor of BA: alpha 16 over rank 8."""
HELD_WINDOWS = 8
WARMUP = 0.3
MAX_NORM = 0.3
ROWS = 256
"""Positions whose logits are compared at a time; bounds memory, not the result."""

Weights = dict[str, Tensor]
"""MLP weights [rows, columns] in float32 by parameter name."""


@dataclass(slots=True)
class Adapter:
    """W + 2 (B A) * M of one matrix: B [rows, rank], A [rank, columns], M the mask of W."""

    base: Tensor
    mask: Tensor
    a: nn.Parameter
    b: nn.Parameter
    rank: int
    """Rows of A that are used."""

    def product(self, mask: Tensor) -> Tensor:
        """What is added to W under a mask."""
        return SCALE * (self.b[:, : self.rank] @ self.a[: self.rank]) * mask

    def merged(self) -> Tensor:
        """The weight as it is used, zero outside the mask."""
        return self.base + self.product(self.mask)


@dataclass(slots=True)
class State:
    """Where a training is: all that a checkpoint holds."""

    adapters: dict[str, Adapter]
    done: int
    used: int
    """Windows that steps have taken."""
    losses: list[tuple[float, float]]
    """Validation loss of each round before and after its steps."""

    def saved(self) -> Arrays:
        """As arrays by name."""
        arrays: Arrays = {
            "at": np.array([self.done, self.used], np.int64),
            "losses": np.array(self.losses, np.float64).reshape(-1, 2),
        }
        for name, one in self.adapters.items():
            parts = {"base": one.base, "mask": one.mask, "a": one.a, "b": one.b}
            arrays |= {f"{name} {k}": v.detach().cpu().numpy() for k, v in parts.items()}
            arrays[f"{name} rank"] = np.array(one.rank)
        return arrays

    @classmethod
    def of(cls, saved: Mapping[str, NDArray[Any]], device: torch.device) -> State:
        """What `saved` holds."""
        adapters = {}
        for name in (n.removesuffix(" base") for n in saved if n.endswith(" base")):
            base, mask, a, b = (
                torch.from_numpy(saved[f"{name} {part}"].copy()).to(device)
                for part in ("base", "mask", "a", "b")
            )
            rank = int(saved[f"{name} rank"])
            adapters[name] = Adapter(base, mask, nn.Parameter(a), nn.Parameter(b), rank)
        done, used = map(int, saved["at"])
        return cls(adapters, done, used, [(x, y) for x, y in saved["losses"].tolist()])


def train(method: LoSA, model: nn.Module, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """All rounds; hands over the merged weights. Goes on after the last round that was saved."""
    learn, held = lesson.split()
    windows = on_device(model, learn[: method.calibration_windows])
    device = next(model.parameters()).device
    saved = lesson.checkpoint.load()
    state = State({}, 0, 0, []) if saved is None else State.of(saved, device)
    for t in range(state.done + 1, method.rounds + 1):
        sparsities = _begin(method, model, windows, state, lesson.seed, t)
        before = _loss(model, state.adapters, held[:HELD_WINDOWS])
        _learn(method, model, state, learn, t)
        after = _loss(model, state.adapters, held[:HELD_WINDOWS])
        state.done, state.losses = t, [*state.losses, (before, after)]
        mean = sum(sparsities) / len(sparsities)
        lesson.log(f"round {t}: sparsity {mean:.3f}, validation KL {before:.5f} to {after:.5f}")
        lesson.checkpoint.save(state.saved())
    new = {name: one.merged().detach() for name, one in state.adapters.items()}
    kept = sum(int(one.mask.sum()) for one in state.adapters.values())
    found = {
        "mlp_density": kept / sum(weight.numel() for weight in new.values()),
        "round_losses": state.losses,
        "ranks": _by_layer(model, {name: one.rank for name, one in state.adapters.items()}),
        "validation_tokens": int(held[:HELD_WINDOWS].size),
    }
    return found, as_arrays(model, new)


def _by_layer(model: nn.Module, values: Mapping[str, int]) -> list[int]:
    """One value of each layer, of which all matrices have the same."""
    firsts = (next(iter(mlp_weights(layer))) for layer in decoder_layers(model))
    return [values[f"{path}.weight"] for path in firsts]


# -- which weights go --------------------------------------------------------------------------


@torch.no_grad()
def _begin(
    method: LoSA, model: nn.Module, windows: Sequence[Tensor], state: State, seed: int, t: int
) -> list[float]:
    """Prune what the round before has left, and make the adapters of round t; the sparsities."""
    merged = _merged(model, state)
    with weights_replaced(model, merged):
        similarity = cka([gram(states) for states in _layer_inputs(model, windows)])
    sparsities = layer_sparsities(importances(similarity), method.sparsity(t))
    masks, errors = _pruned(model, windows, merged, sparsities)
    ranks = method.ranks(errors, t)
    rng = np.random.default_rng([seed, t])
    for layer, rank in zip(decoder_layers(model), ranks, strict=True):
        for path in mlp_weights(layer):
            name = f"{path}.weight"
            before = state.adapters.get(name)
            make = _continued if method.variant == "code" else _anew
            state.adapters[name] = make(before, merged[name], masks[name], rank, rng)
    return sparsities


def _merged(model: nn.Module, state: State) -> Weights:
    if state.adapters:
        return {name: one.merged() for name, one in state.adapters.items()}
    return {
        f"{path}.weight": linear.weight.detach().float()
        for layer in decoder_layers(model)
        for path, linear in mlp_weights(layer).items()
    }


def _anew(
    before: Adapter | None, merged: Tensor, mask: Tensor, rank: int, rng: np.random.Generator
) -> Adapter:
    """A is normal with variance 1 / rank, B zero."""
    return _fresh(merged * mask, mask, rank, rank, rng)


def _continued(
    before: Adapter | None, merged: Tensor, mask: Tensor, rank: int, rng: np.random.Generator
) -> Adapter:
    """The same A and B, of which other rows are used: what they give now leaves W, as released."""
    if before is None:
        return _fresh(merged * mask, mask, RELEASED_RANK, rank, rng)
    base = merged * mask - before.product(mask)
    return Adapter(base.detach(), mask, before.a, before.b, rank)


def _fresh(base: Tensor, mask: Tensor, rows: int, used: int, rng: np.random.Generator) -> Adapter:
    drawn = rng.normal(0.0, rows**-0.5, (rows, base.shape[1])).astype(np.float32)
    a = nn.Parameter(torch.from_numpy(drawn).to(base.device))
    b = nn.Parameter(torch.zeros(base.shape[0], rows, device=base.device))
    return Adapter(base, mask, a, b, used)


def _layer_inputs(model: nn.Module, windows: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """What enters each layer, layer by layer."""
    _, states, calls = entered(model, windows)
    for call in calls:
        yield states
        states = [call(state) for state in states]


def gram(states: Sequence[Tensor]) -> Tensor:
    """Products [windows, windows] of the hidden states of each two windows, all tokens in a row."""
    flat = torch.stack([state.flatten().float() for state in states])
    return (flat @ flat.T).double()


def cka(grams: Sequence[Tensor]) -> NDArray[np.float64]:
    """Linear CKA [layers, layers] of layers by their Gram matrices (Kornblith et al. 2019)."""
    centred = [g - g.mean(0) - g.mean(1, keepdim=True) + g.mean() for g in grams]
    flat = torch.stack([g.flatten() for g in centred])
    flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return (flat @ flat.T).cpu().numpy()


def _pruned(
    model: nn.Module, windows: Sequence[Tensor], merged: Weights, sparsities: Sequence[float]
) -> tuple[Weights, list[float]]:
    """The masks of Wanda at each layer's sparsity, and the error of each layer's output.

    The error is that against the dense model, over the norm of each hidden unit, squared: a mean
    over units. A layer sees what the pruned layers below it give.
    """
    layers, states, calls = entered(model, windows)
    dense, masks, errors = states, {}, []
    for layer, call, sparsity in zip(layers, calls, sparsities, strict=True):
        own = {f"{path}.weight": path for path in mlp_weights(layer)}
        unpruned = {name: merged[name] for name in own}
        with weights_replaced(model, unpruned), watched(layer) as inputs:
            for state in states:
                call(state)
        for name, path in own.items():
            scores = merged[name].abs() * inputs[path].squares.sqrt()
            masks[name] = of_rows(scores, 1 - sparsity)
        with weights_replaced(model, {name: merged[name] * masks[name] for name in own}):
            states = [call(state) for state in states]
        dense = [call(state) for state in dense]
        errors.append(_error(dense, states))
    return masks, errors


def _error(dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> float:
    wanted, got = (torch.cat([s[0] for s in states]).double() for states in (dense, sparse))
    units = (wanted - got).square().sum(0) / wanted.square().sum(0).clamp_min(1e-30)
    return float(units.mean())


# -- adapters that learn ----------------------------------------------------------------------


@contextmanager
def adapted(model: nn.Module, adapters: Mapping[str, Adapter]) -> Iterator[None]:
    """The model with its MLP matrices as adapters make them, until the end."""
    modules = {name: model.get_submodule(name.removesuffix(".weight")) for name in adapters}
    before = {name: module.__dict__.get("forward") for name, module in modules.items()}
    try:
        for name, module in modules.items():
            module.forward = partial(_product, adapters[name], module)
        yield
    finally:
        for name, module in modules.items():
            module.__dict__.pop("forward", None)
            if before[name] is not None:
                module.__dict__["forward"] = before[name]


def _product(adapter: Adapter, module: Any, x: Tensor) -> Tensor:
    return nn.functional.linear(x, adapter.merged().to(x.dtype), module.bias)


def _learn(method: LoSA, model: nn.Module, state: State, learn: NDArray[np.int64], t: int) -> None:
    """The steps of round t; windows are taken in the order of the text, again from its start."""
    parameters = [p for one in state.adapters.values() for p in (one.a, one.b)]
    adam, steps = torch.optim.Adam(parameters, method.learning_rate), method.steps_of(t)
    warm = max(1, round(WARMUP * steps))
    for step in range(steps):
        share = min((step + 1) / warm, (steps - step) / max(1, steps - warm), 1.0)
        adam.param_groups[0]["lr"] = method.learning_rate * share
        for _ in range(method.batch):
            row = learn[state.used % len(learn)]
            (_divergence(model, state.adapters, row) / method.batch).backward()
            state.used += 1
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        adam.step()
        adam.zero_grad(set_to_none=True)


def _loss(model: nn.Module, adapters: Mapping[str, Adapter], windows: NDArray[np.int64]) -> float:
    with torch.no_grad():
        losses = [_divergence(model, adapters, window) for window in windows]
        return float(torch.stack(losses).double().mean())


def _divergence(
    model: nn.Module, adapters: Mapping[str, Adapter], window: NDArray[np.int64]
) -> Tensor:
    """KL(dense || sparse) of the next token, mean over the tokens of a window."""
    (ids,) = on_device(model, [window])
    with torch.no_grad():
        teacher = model(input_ids=ids).logits[0]
    with adapted(model, adapters):
        student = model(input_ids=ids).logits[0]
    parts = zip(teacher.split(ROWS), student.split(ROWS), strict=True)
    return torch.stack([_kl(dense, sparse) for dense, sparse in parts]).sum() / len(teacher)


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    p, q = (logits.float().log_softmax(-1) for logits in (teacher, student))
    return nn.functional.kl_div(q, p, log_target=True, reduction="sum")
