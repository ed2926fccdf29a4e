"""A file of sensitivities as a family of shares: one table for each density.

`sweep allocate` writes SETTING-sensitivities.json; where a study searches `shares`, the file stands
for the shares that read the least for what they lose, at the density of the trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from methods.shares import density_of
from sweep.errors import InputError
from sweep.search.allocate.asked import text_of
from sweep.search.allocate.targets import Curves, Floats, Target, solve

_HALVINGS = 40
"""Of the bytes that a token reads, until the density is met."""


def is_curves(given: str) -> bool:
    """Whether shares are given as a file of sensitivities."""
    return given.endswith(".json") and "measured_at" in content_of(given)


def content_of(path: str) -> Mapping[str, Any]:
    """What a file of shares or of sensitivities holds; nothing if it cannot be read: what is wrong
    with shares, the method says."""
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def shares_at(path: str, groups: Sequence[str], density: float) -> str:
    """The shares at a mean density, as a sweep file writes a table.

    Raises InputError for curves of other groups.
    """
    content = content_of(path)
    if tuple(content.get("groups", ())) != tuple(groups):
        raise InputError(f"{path}: sensitivities of {', '.join(groups)} are expected")
    return _shares_at(json.dumps(content), density)


@lru_cache(maxsize=4096)
def _shares_at(content: str, density: float) -> str:
    curves = _read(json.loads(content))
    low, high = 0.0, float(curves.missed.max(axis=-1).sum())
    if high == 0 or density >= 1:
        return text_of(solve(curves, Target("density", density)))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _density(curves, solve(curves, Target("missed", middle))) < density:
            low = middle
        else:
            high = middle
    return text_of(solve(curves, Target("missed", high)))


def _read(content: Mapping[str, Any]) -> Curves:
    kl = np.array(content["kl"], dtype=np.float64)
    shares = np.broadcast_to(np.array(content["shares"], dtype=np.float64), kl.shape)
    missed = np.array(content["missed_bytes_per_token"], dtype=np.float64)
    return Curves(tuple(content["groups"]), shares, kl, missed)


def _density(curves: Curves, table: Floats) -> float:
    """The MLP density of shares [layers, groups]."""
    return float(np.mean([density_of(curves.groups, row) for row in table]))
