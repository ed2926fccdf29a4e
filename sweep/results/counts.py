"""Counts of the shards of a point, added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from simulator import PhaseCounts


def merged_counts(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of one group over all shards."""
    first, *others = (PhaseCounts.from_json(shard["phases"]) for shard in shards)
    return {
        "phases": first.merge(others),
        "used_by_layer": _sum(shard["used_by_layer"] for shard in shards),
        "hits_by_layer": _sum(shard["hits_by_layer"] for shard in shards),
        "hits_by_percent": _sum(shard.get("hits_by_percent", []) for shard in shards),
    }


def merged_spread(shards: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """How far the used units of one group spread, over all shards."""
    merge: dict[str, Callable[..., Any]] = {"least": np.min, "most": np.max, "squares": np.sum}
    return {
        f"used_{name}_by_layer": how([shard[name] for shard in shards], axis=0).tolist()
        for name, how in merge.items()
    }


def _sum(lists: Iterable[list[int]]) -> list[int]:
    return np.sum(list(lists), axis=0).tolist()
