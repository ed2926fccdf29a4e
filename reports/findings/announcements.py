"""Masks that layers announce for later ones: how many of them are used, and how many of those used
were announced, by distance in layers and by group."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings.accuracy import masks_label
from reports.findings.points import Point, weights_label
from reports.results import Row

Ratios = tuple[float, float]
"""Precision (used of those announced) and recall (announced of those used)."""


@dataclass(frozen=True, slots=True)
class Announced:
    """One group of a configuration; devices that differ in no mask share it."""

    weights: str
    label: str
    group: str
    by_distance: Mapping[int, Ratios]

    @property
    def alike(self) -> bool:
        """Whether precision and recall are the same, as where all layers use equally many."""
        return all(abs(p - r) < 5e-5 for p, r in self.by_distance.values())


def announcements(points: Sequence[Point], rows: Sequence[Row]) -> list[Announced]:
    """Every configuration that announces masks, group by group in the order of the table; equal
    ones once. `rows[i]` is the row of the table that `points[i]` was made of."""
    entries: dict[tuple[str, str, str], Announced] = {}
    for point, row in zip(points, rows, strict=True):
        weights, label = weights_label(point.setting), masks_label(point)
        if row.get("swaps") is not None:  # experts are chosen by what is cached
            label = f"{label} · {point.policy} · {point.setting.dram_gb:g} GB"
        for group, by_distance in _figures(row).items():
            ratios = {int(d): (r["precision"], r["recall"]) for d, r in by_distance.items()}
            entries.setdefault((weights, label, group), Announced(weights, label, group, ratios))
    return list(entries.values())


def distances(entries: Sequence[Announced]) -> list[int]:
    """All distances of these, the nearest first."""
    return sorted({distance for entry in entries for distance in entry.by_distance})


def _figures(row: Row) -> Mapping[str, Any]:
    """By group and distance; nothing where no mask was announced."""
    written = row.get("announced")
    return json.loads(written) if isinstance(written, str) and written else {}
