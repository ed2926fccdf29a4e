"""Accuracy tasks: teacher-forced perplexity of a window, one forward pass, exact for any selector.

A mask depends on earlier tokens of the same layer only, so a layer can decide all its masks in
token order and then multiply as usual. Windows are evaluated one at a time: the sum of floats, and
so the last digit, depends neither on the batch nor on the number of workers.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.activations import counted_zeros
from methods.registry import create
from sweep.inputs import models
from sweep.make_selector import make_selector
from sweep.measures.announcements import announced
from sweep.measures.distances import Dense, Distance, dense
from sweep.measures.losses import Watch, losses, prove
from sweep.selectors import Selector
from sweep.tasks.prelude import changed_model, sparse_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Evaluate, Where


def evaluate(
    payload: Evaluate, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """Losses and reads of a shard of windows; hands over the trace of a selector without state.

    The input `weights`, if there is one, takes the place of the model's own for this task, and
    `trained` is what the training of the method made.
    """
    windows = text_windows(payload, where, payload["windows"])
    method = create(payload["method"], payload["density"], **payload["parameters"])
    selector = make_selector(payload["selector"], inputs) if method.groups else None
    prove(models.loaded(where["model"], payload["dtype"], device))
    expected = _expected(payload, where, inputs, device, windows)
    distances = [Distance() for _ in expected]
    watches = [known.watch(distance) for known, distance in zip(expected, distances, strict=True)]
    counts_zeros = "activation" in payload and not selector
    with (
        sparse_model(payload, where, inputs, device, method, selector) as model,
        counted_zeros(model) if counts_zeros else nullcontext() as zeros,
    ):
        dense_tokens = payload.get("dense_tokens", 0)
        nll = [
            _window_nll(model, window, selector, dense_tokens, watch)
            for window, watch in zip(windows, watches or [None] * len(windows), strict=True)
        ]
    result: dict[str, Any] = {
        "nll": nll,
        "predicted": [len(window) - 1 for window in windows],
        "tokens": int(windows.size),
        "mlp_density": selector.mlp_density() if selector else 1.0,
        "groups": selector.groups() if selector else {},
        "device": device,
    }
    if zeros:
        result["zeros"] = zeros.share
    if distances:
        result["kl"] = [distance.kl for distance in distances]
        result["flips"] = [distance.flips for distance in distances]
    if selector and (attention := selector.attention()):
        result["attention"] = attention
    if selector and (spread := selector.spread()):
        result["spread"] = spread
    trace = selector.trace() if selector else None
    if trace is not None and (ahead := method.announced_layers()):
        result["announced"] = announced(trace, ahead)
    return result, trace


def _expected(
    payload: Evaluate,
    where: Where,
    inputs: dict[str, Any],
    device: str,
    windows: NDArray[np.int64],
) -> list[Dense]:
    """What the dense model expects in each window, where distances to it are asked for."""
    asked = payload.get("distances")
    if asked is None:
        return []
    roles = {key: role for role, key in payload["inputs"].items()}
    weights = {"weights": inputs[roles[asked["weights"]]]} if asked["weights"] else {}
    with changed_model(payload, where, weights, device) as model, torch.inference_mode():

        def run(window: NDArray[np.int64], watch: Watch) -> None:
            _window_nll(model, window, None, 0, watch)

        return [
            dense(asked["dense"], number, len(window), partial(run, window))
            for number, window in zip(payload["windows"], windows, strict=True)
        ]


def _window_nll(
    model: nn.Module,
    window: NDArray[np.int64],
    selector: Selector | None,
    dense_tokens: int,
    watch: Watch | None,
) -> float:
    """Summed negative log-likelihood of a window's tokens but the first, in float32."""
    tokens = torch.from_numpy(window)[None].to(next(model.parameters()).device)  # [1, tokens]
    if selector:
        selector.begin_window(len(window), dense_tokens)
    by_slice = losses(model, tokens, watch)
    total = float(by_slice.double().sum())
    if not np.isfinite(total):
        raise FloatingPointError(f"the loss of a window is {total}")
    return total
