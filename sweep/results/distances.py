"""How far what a model expects is from what the dense one does, as columns (SEMANTICS 12)."""

from __future__ import annotations

import math
from collections.abc import Callable

from sweep.results.perplexity import Losses, mean_interval

_SUMS = {"kl": "kl", "flip_rate": "flips"}
"""Columns, and what of each window they are means of."""

OF_ITSELF: dict[str, float | None] = {
    f"{name}{end}": 0.0 for name in _SUMS for end in ("", "_low", "_high")
}
"""Of the dense model."""


def columns(sums: Callable[[str], Losses]) -> dict[str, float | None]:
    """Means over tokens with their intervals; `sums` gives sums of each window by their name."""
    row: dict[str, float | None] = {}
    for name, counted in _SUMS.items():
        of_windows = sums(counted)
        low, high = mean_interval(of_windows)
        ends = {f"{name}_low": low, f"{name}_high": high}
        row[name] = of_windows.mean
        row |= {end: None if math.isnan(value) else value for end, value in ends.items()}
    return row
