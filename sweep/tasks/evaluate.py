"""Accuracy tasks: teacher-forced perplexity of a window, one forward pass, exact for any selector.

A mask depends on earlier tokens of the same layer only, so a layer can decide all its masks in
token order and then multiply as usual. Windows are evaluated one at a time: the sum of floats, and
so the last digit, depends neither on the batch nor on the number of workers.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.apply import applied, weights_replaced
from methods.registry import create
from methods.training import fitted
from sweep.inputs import models, texts
from sweep.selectors import Selector, selector

LOGITS_ROWS = 256
"""Positions whose logits are turned into losses at a time; bounds memory, not the result."""


def evaluate(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """Losses and reads of a shard of windows; hands over the trace of a selector without state.

    The input `weights`, if there is one, takes the place of the model's own for this task, and
    `trained` is what the training of the method made.
    """
    torch.set_num_threads(payload["threads"])
    model = models.loaded(payload["model"], payload["dtype"], device)
    every = texts.windows(payload["text_name"], payload["model"], payload["window_tokens"])
    windows = every[payload["windows"]]
    untrained = create(payload["method"], payload["density"], **payload["parameters"])
    chosen = selector(payload["selector"], inputs) if untrained.groups else None
    with (
        weights_replaced(model, inputs.get("weights", {})),
        fitted(model, untrained, inputs.get("trained")) as method,
        torch.inference_mode(),
        applied(model, method, chosen) if chosen else nullcontext(),
    ):
        nll = [_window_nll(model, window, chosen) for window in windows]
    result: dict[str, Any] = {
        "nll": nll,
        "predicted": [len(window) - 1 for window in windows],
        "tokens": int(windows.size),
        "mlp_density": chosen.mlp_density() if chosen else 1.0,
        "groups": chosen.groups() if chosen else {},
        "device": device,
    }
    if chosen and (spread := chosen.spread()):
        result["spread"] = spread
    return result, chosen.trace() if chosen else None


def _window_nll(model: nn.Module, window: NDArray[np.int64], chosen: Selector | None) -> float:
    """Summed negative log-likelihood of a window's tokens but the first, in float32."""
    tokens = torch.from_numpy(window)[None].to(next(model.parameters()).device)  # [1, tokens]
    if chosen:
        chosen.begin_window(len(window))
    logits = model(input_ids=tokens).logits[0, :-1]  # [tokens - 1, vocabulary]
    targets = tokens[0, 1:]
    losses = [
        nn.functional.cross_entropy(logits[i : i + LOGITS_ROWS].float(), rows, reduction="sum")
        for i, rows in zip(
            range(0, len(targets), LOGITS_ROWS), targets.split(LOGITS_ROWS), strict=True
        )
    ]
    total = float(torch.stack(losses).double().sum())
    if not np.isfinite(total):
        raise FloatingPointError(f"the loss of a window is {total}")
    return total
