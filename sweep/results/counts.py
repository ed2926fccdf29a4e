"""Counts of the shards of a point, added up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from simulator import Footprint, Geometry, PhaseCounts, Storage, weight_bytes
from simulator.cache_shares import Shares, weights
from simulator.phase_reads import PhaseReads
from simulator.read_classes import merged
from sweep.results import experts


def merged_counts(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of one group over all shards."""
    first, *others = (PhaseCounts.from_json(shard["phases"]) for shard in shards)
    counted = [PhaseReads.from_json(shard) for shard in shards if "reads" in shard]
    by_class = [shard["classes"] for shard in shards if "classes" in shard]
    return {
        "phases": first.merge(others),
        "reads": counted[0].merge(counted[1:]) if counted else None,
        "classes": merged(by_class) if len(by_class) == len(shards) else None,
        "used_by_layer": _sum(shard["used_by_layer"] for shard in shards),
        "hits_by_layer": _sum(shard["hits_by_layer"] for shard in shards),
        "hits_by_percent": _sum(shard.get("hits_by_percent", []) for shard in shards),
    }


def reads_text(
    reads: Mapping[str, Mapping[str, Any]],
    spread: Mapping[str, Mapping[str, Any]],
    sizes: Footprint,
    slots: Mapping[str, int],
    shares: Shares,
) -> str:
    """The counts as JSON, from which a report prices other devices; where groups do not share the
    cache by their bytes, with the share of each."""
    share = weights(sizes, shares) if shares else {}
    return json.dumps(
        {
            name: {
                "units": sizes.groups[name].units,
                "layers": sizes.groups[name].layers,
                "unit_bytes": sizes.groups[name].unit_bytes,
                "slots": slots[name],
                **({"share": share[name]} if share else {}),
                **_phases(counts),
                "used_by_layer": counts["used_by_layer"],
                "hits_by_layer": counts["hits_by_layer"],
                "hits_by_percent": counts["hits_by_percent"],
                **spread.get(name, {}),
            }
            for name, counts in reads.items()
        }
    )


def _phases(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Phases, and where reads were counted, what the reads of each pair were together, and the
    classes of size of all of them."""
    reads: PhaseReads | None = counts["reads"]
    if reads is None:
        return {"phases": counts["phases"].to_json()}
    came = reads.to_json()
    if counts["classes"] is not None:
        came["classes"] = counts["classes"]
    return {"came": came, "phases": reads.phases.to_json()}


def mean_zeros(shards: list[dict[str, Any]]) -> float | None:
    """Share of exact zeros over all shards; None of an activation of which they are not counted."""
    if not all("zeros" in shard for shard in shards):
        return None
    tokens = [shard["tokens"] for shard in shards]
    return float(np.average([shard["zeros"] for shard in shards], weights=tokens))


def merged_spread(shards: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """How far the used units of one group spread, over all shards."""
    merge: dict[str, Callable[..., Any]] = {"least": np.min, "most": np.max, "squares": np.sum}
    return {
        f"used_{name}_by_layer": how([shard[name] for shard in shards], axis=0).tolist()
        for name, how in merge.items()
    }


def announced_figures(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and recall of announced masks, by group and distance in layers, over all shards;
    empty where nothing is announced."""
    figures: dict[str, Any] = {}
    for group, by_distance in shards[0].get("announced", {}).items():
        figures[group] = {}
        for distance in by_distance:
            counts = [shard["announced"][group][distance] for shard in shards]
            both, announced, used = np.sum(counts, axis=0).tolist()
            ratios = {"precision": both / max(1, announced), "recall": both / max(1, used)}
            figures[group][distance] = ratios
    return figures


def weight_columns(geometry: Geometry, dense: Storage, sizes: Footprint) -> dict[str, float]:
    """Bytes of all weights: as a point stores them, with none left out, and in 16 bits."""
    return {
        "weight_bytes": sizes.total_bytes - geometry.kv_bytes(dense),
        "weight_bytes_dense": sum(weight_bytes(geometry, dense).values()),
        "weight_bytes_16bit": 2.0 * geometry.weights,
    }


def linear_density(
    geometry: Geometry, mlp_density: float, shards: Sequence[Mapping[str, Any]]
) -> float:
    """Weights of attention, or of whatever mixes tokens, and of MLPs that a token uses, over all of
    them (SEMANTICS 8); shards say what share of each group of attention was used."""
    mixers, mlps = geometry.mixer_weights, geometry.dense_layers * geometry.mlp_weights
    used = mixers + mlp_density * mlps
    if geometry.experts is not None:
        return experts.linear_density(geometry, geometry.experts, mlp_density)
    if "attention" in shards[0]:
        tokens = [shard["tokens"] for shard in shards]
        for group, weights in geometry.attention_weights_of.items():
            shares = [shard["attention"][group] for shard in shards]
            used -= (1 - float(np.average(shares, weights=tokens))) * geometry.layers * weights
    return used / (mixers + mlps)


def _sum(lists: Iterable[list[int]]) -> list[int]:
    return np.sum(list(lists), axis=0).tolist()
