"""Accuracy tasks on a GPU: windows in batches, masks made on the device, one window proved.

The first batch of a process on a GPU selects one window's units with the CPU kernels too, for each
kind of selector and type; where these differ the task fails and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.registry import create
from sweep.batched.losses import losses
from sweep.batched.make import Batched, make_batched
from sweep.batched.memory import batch_of, bytes_of_window, free_bytes
from sweep.batched.proof import Proof
from sweep.inputs import models
from sweep.measures.announcements import announced
from sweep.measures.losses import prove
from sweep.tasks.evaluate import evaluate as one_by_one
from sweep.tasks.prelude import sparse_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Evaluate, Where

_proved: set[tuple[str, ...]] = set()


def evaluate(
    payload: Evaluate, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """As `sweep.tasks.evaluate.evaluate`, for payloads that `in_batches` names."""
    method = create(payload["method"], payload["density"], **payload["parameters"])
    if not method.groups:
        return one_by_one(payload, where, inputs, device)
    windows = text_windows(payload, where, payload["windows"])
    selector = make_batched(payload["selector"], inputs)
    prove(models.loaded(where["model"], payload["dtype"], device))
    with sparse_model(payload, where, inputs, device, method, selector) as model:
        kind = _kind(payload)
        if device == "cuda" and kind not in _proved:
            selector.proof = Proof()
        nll = _losses(model, windows, selector, payload, where)
        _proved.add(kind)
    result: dict[str, Any] = {
        "nll": nll,
        "predicted": [len(window) - 1 for window in windows],
        "tokens": int(windows.size),
        "mlp_density": selector.mlp_density(),
        "groups": selector.groups(),
        "device": device,
    }
    if attention := selector.attention():
        result["attention"] = attention
    if spread := selector.spread():
        result["spread"] = spread
    trace = selector.trace()
    if trace is not None and (ahead := method.announced_layers()):
        result["announced"] = announced(trace, ahead)
    return result, trace


def _kind(payload: Evaluate) -> tuple[str, ...]:
    """What is proved once by a process."""
    chosen = payload["selector"]
    return chosen.get("name", ""), chosen.get("policy", ""), payload["dtype"]


def _losses(
    model: nn.Module,
    windows: NDArray[np.int64],
    selector: Batched,
    payload: Evaluate,
    where: Where,
) -> list[float]:
    """Summed negative log-likelihoods of the windows; where memory runs out, batches are halved."""
    batch = _batch(model, windows, payload, int(where.get("batch", 0)))
    nll: list[float] = []
    while len(nll) < len(windows):
        part = windows[len(nll) : len(nll) + batch]
        try:
            nll += _of_batch(model, part, selector, payload.get("dense_tokens", 0))
        except torch.OutOfMemoryError:
            if batch == 1 or len(part) == 1:
                raise
            selector.forget_batch()
            torch.cuda.empty_cache()
            batch = len(part) // 2
    return nll


def _batch(model: Any, windows: NDArray[np.int64], payload: Evaluate, asked: int) -> int:
    """Windows at once; a session that is carried on has one at a time."""
    weight = next(model.parameters())
    if payload["selector"].get("scope", "window") != "window":
        return 1
    gpus = {part.device for part in model.parameters() if part.is_cuda}
    free = min(map(free_bytes, gpus), default=1 << 33)
    config = model.config.get_text_config()
    eager = model.config._attn_implementation == "eager"
    size = bytes_of_window(config, windows.shape[1], weight.element_size(), eager)
    return batch_of(len(windows), size, free, asked)


def _of_batch(
    model: nn.Module, windows: NDArray[np.int64], selector: Batched, dense_tokens: int
) -> list[float]:
    tokens = torch.from_numpy(windows).to(next(model.parameters()).device)
    selector.begin_batch(len(windows), windows.shape[1], dense_tokens)
    sums = losses(model, tokens).double().sum(dim=1).tolist()
    selector.settle()
    for total in sums:
        if not np.isfinite(total):
            raise FloatingPointError(f"the loss of a window is {total}")
    return sums
