"""Calibration tasks: which units are most active on text that is never the reported one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.apply import applied
from methods.registry import create
from sweep import models, texts


def calibrate(
    payload: dict[str, Any], inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    """Hands over, by group, the units [layers, units] in order of falling mean score.

    The scores are those of the method with nothing pruned: mean absolute activations of the dense
    model. Ties go to the lower unit. Memory does not grow with the text.
    """
    torch.set_num_threads(payload["threads"])
    model = models.loaded(payload["model"], payload["dtype"], device)
    every = texts.windows(
        payload["text_name"], payload["model"], payload["window_tokens"], calibration=True
    )
    windows = every[payload["windows"]]
    means = _Sums()
    method = create(payload["method"], 1.0, **payload["parameters"])
    with torch.inference_mode(), applied(model, method, means):
        for window in windows:
            model(input_ids=torch.from_numpy(window)[None].to(device))
    orders = {group: _order(layers) for group, layers in means.by_group().items()}
    return {"tokens": int(windows.size)}, orders


class _Sums:
    """A selector that keeps everything and sums the scores of each unit in float64."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Tensor] = {}

    def __call__(self, layer: int, group: str, scores: Tensor, density: float) -> Tensor:
        total = scores.double().reshape(-1, scores.shape[-1]).sum(0)
        earlier = self._sums.get((group, layer))
        self._sums[group, layer] = total if earlier is None else earlier + total
        return torch.ones_like(scores)

    def by_group(self) -> dict[str, list[Tensor]]:
        groups: dict[str, list[Tensor]] = {}
        for (group, _layer), total in sorted(self._sums.items()):
            groups.setdefault(group, []).append(total)
        return groups


def _order(layers: list[Tensor]) -> NDArray[np.int64]:
    sums = torch.stack(layers).cpu()  # [layers, units]
    return sums.argsort(dim=1, descending=True, stable=True).numpy()
