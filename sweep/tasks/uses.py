"""Counting uses: how many tokens of the calibration text use a unit, for policies that ask for it.

It is a calibration by its kind and what it hands over, of one method, density and selector: the
model runs as an evaluation runs it, so a use is what the masks of the point make of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.apply import run_layers
from methods.registry import create
from simulator.packing import unpack
from sweep.make_selector import make_selector
from sweep.tasks.prelude import sparse_model, text_windows

if TYPE_CHECKING:
    from simulator.trace import Trace
    from sweep.tasks.payloads import CountUses, Where

Counts = dict[str, NDArray[np.int64]]
"""By group, how many tokens used a unit, [layers, units]."""


def count_uses(
    payload: CountUses, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Counts]:
    """Hands over, by group, the units [layers, units] in order of falling use; ties go to the lower
    unit. Of the uses themselves the result has, by group and layer, the share that falls to the
    most used half of the units."""
    windows = text_windows(payload, where, payload["windows"], calibration=True)
    method = create(payload["method"], payload["density"], **payload["parameters"])
    selector = make_selector(payload["selector"], inputs)
    counts: Counts = {}
    with sparse_model(payload, where, inputs, device, method, selector) as model:
        for window in windows:
            selector.begin_window(len(window))
            run_layers(model, torch.from_numpy(window)[None].to(device))
            _add(counts, selector.trace())
            selector.drain()
    groups = {name: {"used_by_half": _share_of_half(used)} for name, used in counts.items()}
    orders = {name: np.argsort(-used, axis=1, kind="stable") for name, used in counts.items()}
    return {"tokens": int(windows.size), "groups": groups}, orders


def _add(counts: Counts, trace: Trace | None) -> None:
    if trace is None:
        raise ValueError("uses are counted from masks that do not depend on a cache")
    for group, units in trace.units.items():
        layers = [unpack(trace.masks(group, i), units).sum(axis=0) for i in range(trace.layers)]
        counts[group] = counts.get(group, 0) + np.stack(layers).astype(np.int64)


def _share_of_half(used: NDArray[np.int64]) -> list[float]:
    """By layer, the uses of the most used half of the units [layers, units], over all uses."""
    falling = -np.sort(-used, axis=1)
    half = falling[:, : used.shape[1] // 2].sum(axis=1)
    return (half / np.maximum(falling.sum(axis=1), 1)).tolist()
