"""Counting uses of experts on the calibration text: the order in which a cache begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.apply import run_layers
from methods.experts.rules import GROUP
from simulator.packing import unpack
from sweep.routing.evaluate import routed_model, rule_of
from sweep.routing.routes import Routes
from sweep.tasks.prelude import text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import CountUses, Where


def count_uses(
    payload: CountUses, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], dict[str, NDArray[np.int64]]]:
    """Hands over the experts [layers, experts] in order of falling use by the router's own choice;
    ties go to the lower expert."""
    windows = text_windows(payload, where, payload["windows"], calibration=True)
    rule = rule_of(payload)
    routes = Routes(rule, {"name": "topk"})
    counts: list[NDArray[np.int64]] = []
    with routed_model(payload, where, inputs, device, rule, routes) as (model, _):
        for window in windows:
            routes.begin_window(len(window))
            run_layers(model, torch.from_numpy(window)[None].to(device))
            trace = routes.trace()
            units = trace.units[GROUP]
            counts.append(
                np.stack(
                    [
                        unpack(trace.masks(GROUP, layer), units).sum(axis=0, dtype=np.int64)
                        for layer in range(trace.layers)
                    ]
                )
            )
            routes.drain()
    used = np.sum(counts, axis=0)
    order = np.argsort(-used, axis=1, kind="stable")
    falling = -np.sort(-used, axis=1)
    half = falling[:, : used.shape[1] // 2].sum(axis=1) / np.maximum(falling.sum(axis=1), 1)
    return {"tokens": int(windows.size), "groups": {GROUP: {"used_by_half": half.tolist()}}}, {
        GROUP: order
    }
