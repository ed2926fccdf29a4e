"""What tasks begin with: windows of a text, and the model, loaded, with changed weights and, where
there is one, a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.activations import swapped
from methods.apply import applied, weights_replaced
from methods.base import Method
from methods.training import fitted
from sweep.inputs import models, texts
from sweep.tasks import as_planned

if TYPE_CHECKING:
    from methods.apply import LayerSelect
    from sweep.tasks.payloads import ModelRun, ModelWhere


def text_windows(
    payload: Mapping[str, Any],
    where: Mapping[str, Any],
    chosen: Sequence[int] | slice,
    calibration: bool = False,
) -> NDArray[np.int64]:
    """Token ids [windows, window_tokens] of the chosen windows of the text of a `TextRun`."""
    return texts.windows(
        where["text_name"],
        where["model"],
        payload["window_tokens"],
        calibration,
        payload.get("bos", texts.FIRST_WINDOW),
        chosen,
    )


@contextmanager
def changed_model(
    payload: ModelRun, where: ModelWhere, inputs: Mapping[str, Any], device: str
) -> Iterator[nn.Module]:
    """The model of a task; the input `weights`, if there is one, takes the place of its own, and so
    does the `activation` of the payload."""
    torch.set_num_threads(payload["threads"])
    model = models.loaded(where["model"], payload["dtype"], device)
    if "sizes" in where:
        as_planned.check(model, where["sizes"])
    activation = payload.get("activation", "")
    with (
        weights_replaced(model, inputs.get("weights", {})),
        swapped(model, activation) if activation else nullcontext(),
    ):
        yield model


@contextmanager
def sparse_model(
    payload: ModelRun,
    where: ModelWhere,
    inputs: Mapping[str, Any],
    device: str,
    method: Method,
    selector: LayerSelect | None,
) -> Iterator[nn.Module]:
    """The model of a task with a method applied, for inference; without a selector it runs densely.

    The input `trained` is what the training of the method made.
    """
    with (
        changed_model(payload, where, inputs, device) as model,
        fitted(model, method, inputs.get("trained")) as fitted_method,
        torch.inference_mode(),
        applied(model, fitted_method, selector) if selector else nullcontext(),
    ):
        yield model
