"""Masks that are announced for later layers: how many of them those layers use (SEMANTICS 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.trace import Trace

Announced = dict[str, dict[str, list[int]]]
"""By group and distance in layers, units that were both announced and used, announced, used."""


def announced(trace: Trace, ahead: int) -> Announced:
    """Counts over all tokens and layers, where each layer announces its masks for the `ahead` next
    ones. Precision is the first over the second, recall the first over the third."""
    counts: Announced = {}
    for group in trace.units:
        masks = [trace.masks(group, layer) for layer in range(trace.layers)]
        used = [int(np.bitwise_count(layer).sum()) for layer in masks]
        counts[group] = {
            str(distance): [
                sum(
                    int(np.bitwise_count(masks[i] & masks[i + distance]).sum())
                    for i in range(trace.layers - distance)
                ),
                sum(used[: trace.layers - distance]),
                sum(used[distance:]),
            ]
            for distance in range(1, ahead + 1)
        }
    return counts
