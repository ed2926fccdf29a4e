"""Order of units by the tokens of the calibration text that use them together.

It is a calibration by its kind and what it hands over, of one method and density: the masks are
those that `sweep.tasks.uses` counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.apply import run_layers
from methods.registry import create
from simulator.coactive import coactive
from simulator.packing import unpack
from sweep.make_selector import make_selector
from sweep.tasks.prelude import sparse_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import CountUses, Where

Place = tuple[str, int]
"""A group and a layer."""


def order(
    payload: CountUses, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    """Hands over, by group, the units [layers, units] as they are to lie in Flash. The result has,
    by group and layer, the runs of used units of a token, in the mean: as the model has the units,
    and in this order."""
    windows = text_windows(payload, where, payload["windows"], calibration=True)
    method = create(payload["method"], payload["density"], **payload["parameters"])
    selector = make_selector(payload["selector"], inputs)
    packed: dict[Place, list[NDArray[np.uint64]]] = {}
    units: dict[str, int] = {}
    with sparse_model(payload, where, inputs, device, method, selector) as model:
        for window in windows:
            selector.begin_window(len(window))
            run_layers(model, torch.from_numpy(window)[None].to(device))
            trace = selector.trace()
            assert trace is not None  # masks do not depend on a cache
            units |= trace.units
            for group, layer, _, masks in trace.blocks():
                packed.setdefault((group, layer), []).append(masks.copy())
            selector.drain()
    groups: dict[str, dict[str, list[float]]] = {}
    orders: dict[str, list[NDArray[np.int64]]] = {}
    for (group, _), parts in sorted(packed.items()):
        masks = [unpack(part, units[group]) for part in parts]
        by_use = coactive(masks)
        orders.setdefault(group, []).append(by_use)
        runs = groups.setdefault(group, {"runs": [], "runs_coactive": []})
        runs["runs"].append(_runs(masks))
        runs["runs_coactive"].append(_runs([mask[:, by_use] for mask in masks]))
    stacked = {group: np.stack(of_layers) for group, of_layers in orders.items()}
    return {"tokens": int(windows.size), "groups": groups}, stacked


def _runs(masks: list[NDArray[np.bool_]]) -> float:
    """Runs of used units of a token, in the mean."""
    begun = sum(int(mask[:, 0].sum()) + int((mask[:, 1:] > mask[:, :-1]).sum()) for mask in masks)
    return begun / sum(len(mask) for mask in masks)
