"""Accuracy tasks at a fixed price of reads: perplexity, and the density that comes of the price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.registry import create
from sweep.flash.selector import PricedSelector, make_priced
from sweep.inputs import models
from sweep.measures.announcements import announced
from sweep.measures.losses import losses, prove
from sweep.tasks.prelude import sparse_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Evaluate, Where


def evaluate(
    payload: Evaluate, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """Losses and reads of a shard of windows, as `sweep.tasks.evaluate` has them, and the trace of
    the masks. The density of the payload counts for nothing but what it says of the method."""
    windows = text_windows(payload, where, payload["windows"])
    method = create(payload["method"], payload["density"], **payload["parameters"])
    selector = make_priced(payload["selector"], inputs)
    prove(models.loaded(where["model"], payload["dtype"], device))
    with sparse_model(payload, where, inputs, device, method, selector) as model:
        dense_tokens = payload.get("dense_tokens", 0)
        nll = [_window_nll(model, window, selector, dense_tokens) for window in windows]
    trace = selector.trace()
    result: dict[str, Any] = {
        "nll": nll,
        "predicted": [len(window) - 1 for window in windows],
        "tokens": int(windows.size),
        "mlp_density": selector.mlp_density(),
        "groups": selector.groups(),
        "device": device,
        "spread": selector.spread(),
    }
    if attention := selector.attention():
        result["attention"] = attention
    if trace is not None and (ahead := method.announced_layers()):
        result["announced"] = announced(trace, ahead)
    return result, trace


def _window_nll(
    model: nn.Module, window: NDArray[np.int64], selector: PricedSelector, dense_tokens: int
) -> float:
    """Summed negative log-likelihood of a window's tokens but the first, in float32."""
    selector.begin_window(len(window), dense_tokens)
    tokens = torch.from_numpy(window)[None].to(next(model.parameters()).device)  # [1, tokens]
    total = float(losses(model, tokens).double().sum())
    if not np.isfinite(total):
        raise FloatingPointError(f"the loss of a window is {total}")
    return total
