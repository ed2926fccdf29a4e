"""How large the reads of a point are: each missed unit is one, until reads are modelled.

A Flash bandwidth is meant for reads of some size; what a point asks for may be far smaller.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MEANT_BYTES = 64 * 1024
"""Reads that a device's Flash bandwidth is meant for are of this size or larger."""


def read_sizes(written: object) -> tuple[float, float]:
    """(reads a token, bytes of a read), both means, of a cell of the column `reads`.

    NaN where it is empty, cannot be read, or has no group; no size where nothing is read.
    """
    try:
        groups = list(json.loads(written).values()) if isinstance(written, str) else []
        missed = [_missed(group) for group in groups]
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        missed = []
    if not missed:
        return math.nan, math.nan
    reads = sum(units for units, _ in missed)
    return reads, sum(size for _, size in missed) / reads if reads else math.nan


def _missed(group: Mapping[str, Any]) -> tuple[float, float]:
    """Missed units of a group a token, and their bytes."""
    phases = group["phases"]
    tokens = sum(phases["count"]) / group["layers"]
    missed = sum(m * n for m, n in zip(phases["missed"], phases["count"], strict=True))
    units = missed / tokens
    return units, units * group["unit_bytes"]
