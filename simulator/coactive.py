"""Order of units in which those that are used together lie side by side (SEMANTICS 9)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError
from simulator.kernels.coactive import chain
from simulator.packing import pack


def coactive(masks: Iterable[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Units int `[units]` as they lie, from masks bool `[tokens, units]` of any number of texts.

    The runs of used units that a token has are half the places where a used unit lies beside an
    unused one. So the distance of two units is the number of tokens that use one of them and not
    the other, and the order is a short path through all units: it begins with the most used unit,
    and after each comes the nearest of those left. Ties go to the lower unit; nothing is drawn.
    Takes units² · tokens / 64 steps at most. Raises SimulatorError for no masks, and for masks of
    other numbers of units.
    """
    parts: list[NDArray[np.uint64]] = []
    uses = np.zeros(0, np.int64)
    for mask in masks:
        used = mask.sum(axis=0, dtype=np.int64)
        if parts and len(used) != len(uses):
            raise SimulatorError(f"masks of {len(used)} units after masks of {len(uses)}")
        uses = uses + used if parts else used
        parts.append(pack(np.ascontiguousarray(mask.T)))
    if not parts:
        raise SimulatorError("an order of units used together needs masks of at least one token")
    order = np.empty(len(uses), np.int64)
    chain(np.concatenate(parts, axis=1), int(uses.argmax()), order)
    return order
