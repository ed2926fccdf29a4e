"""Calibration tasks: how active units are on text that is never the reported one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.apply import run_layers
from methods.registry import create
from methods.thresholds import Histogram, Quantiles, check_finite
from sweep.tasks.prelude import sparse_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Calibrate, Where

Arrays = dict[str, NDArray[Any]]


def calibrate(
    payload: Calibrate, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Arrays]:
    """Hands over, by group, the units [layers, units] in order of falling mean score, and counts of
    the scores from which `Quantiles.of` reads thresholds.

    The scores are those of the method with nothing pruned: activations of the dense model. Ties go
    to the lower unit. Memory does not grow with the text.
    """
    windows = text_windows(payload, where, payload["windows"], calibration=True)
    seen = Statistics()
    method = create(payload["method"], 1.0, **payload["parameters"])
    with sparse_model(payload, where, inputs, device, method, seen) as model:
        for window in windows:
            run_layers(model, torch.from_numpy(window)[None].to(device))
    return {"tokens": int(windows.size), "groups": seen.ranges()}, seen.arrays()


class Statistics:
    """A selector that keeps every unit, sums the scores of each in float64 and counts them all."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Tensor] = {}
        self._histograms: dict[str, Histogram] = {}

    def __call__(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        check_finite(scores)
        total = scores.double().reshape(-1, scores.shape[-1]).sum(0)
        earlier = self._sums.get((group, layer))
        self._sums[group, layer] = total if earlier is None else earlier + total
        self._histograms.setdefault(group, Histogram()).add(layer, scores)
        return torch.ones_like(scores)

    def arrays(self) -> Arrays:
        """Orders of units and counted scores of every group."""
        arrays: Arrays = {group: _order(layers) for group, layers in self._by_group().items()}
        for group, histogram in self._histograms.items():
            arrays |= histogram.arrays(group)
        return arrays

    def ranges(self) -> dict[str, dict[str, list[float]]]:
        """Median of the scores by layer and of all layers: how much layers differ (Figure 4)."""
        quantiles = Quantiles.of(self.arrays())
        return {
            group: {
                "median_by_layer": quantiles.thresholds("layer-threshold", group, 0.5),
                "median": quantiles.thresholds("global-threshold", group, 0.5)[:1],
            }
            for group in self._histograms
        }

    def _by_group(self) -> dict[str, list[Tensor]]:
        groups: dict[str, list[Tensor]] = {}
        for (group, _layer), total in sorted(self._sums.items()):
            groups.setdefault(group, []).append(total)
        return groups


def _order(layers: list[Tensor]) -> NDArray[np.int64]:
    sums = torch.stack(layers).cpu()  # [layers, units]
    return sums.argsort(dim=1, descending=True, stable=True).numpy()
