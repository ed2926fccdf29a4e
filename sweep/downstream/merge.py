"""Accuracy from shards: the means, errors and group scores that lm-eval's own single run gives.

Every sum is taken in lm-eval's order, over documents of one task and then over tasks of a group, so
that a score made of shards is the same to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from methods.density import mlp_density
from sweep.downstream.task import DownstreamTask

FILE = "accuracy.json"
PREFERRED = ("acc", "exact_match")
"""Metrics that a column shows if none is asked for, first found first."""

Result = Mapping[str, Any]


def merged(
    entry: DownstreamTask, card: Mapping[str, Any], shards: Iterable[tuple[str, Result]]
) -> Result:
    """Score, standard error and detail of a task from the results of all its shards by leaf.

    `score` and `stderr` are of `metric`; `leaves` and `groups` have all means of all tasks.
    """
    by_leaf: dict[str, list[Result]] = {}
    for leaf, result in shards:
        by_leaf.setdefault(leaf, []).append(result)
    leaves = {leaf: _leaf(results) for leaf, results in by_leaf.items()}
    groups = {name: _group(group, leaves) for name, group in card["groups"].items()}
    top = card["top"] or entry.name
    scored = leaves | groups
    if top not in scored:  # a tag: lm-eval lists its tasks, and a size-weighted mean stands for it
        every = [{"metric": m, "weight_by_size": True, "filters": None} for m in _metrics(leaves)]
        groups[top] = _group({"leaves": list(leaves), "metrics": every}, leaves)
        scored[top] = groups[top]
    metric = _chosen(entry, scored[top])
    figures = scored[top].get(metric, {})
    every_result = [result for results in by_leaf.values() for result in results]
    return {
        "task": top,
        "metric": metric,
        "score": figures.get("value"),
        "stderr": figures.get("stderr"),
        "documents": sum(result["documents"] for result in every_result),
        "prefill": _reads([result["prefill"] for result in every_result]),
        "decode": _reads([result["decode"] for result in every_result]),
        "leaves": leaves,
        "groups": groups,
    }


def _leaf(shards: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Means of a task, in the order of its documents."""
    means = {}
    for metric in shards[0]["values"]:
        values = [value for shard in shards for value in shard["values"].get(metric, ())]
        mean = sum(values) / len(values)
        error = None
        if len(values) > 1:
            squares = sum([(value - mean) ** 2 for value in values])
            error = math.sqrt(squares / (len(values) - 1)) / math.sqrt(len(values))
        means[metric] = {"value": mean, "stderr": error, "documents": len(values)}
    return means


def _group(group: Mapping[str, Any], leaves: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Means of a group over its tasks, by their documents or each alike; errors are pooled."""
    means = {}
    members = [leaves[name] for name in group["leaves"] if name in leaves]
    for metric in group["metrics"]:
        names = _of_metric(metric, members)
        for name in names:
            scored = [leaf[name] for leaf in members if name in leaf]
            means[name] = _pooled(scored, metric["weight_by_size"])
    return means


def _of_metric(metric: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> list[str]:
    """`metric,filter` names of a metric, of all filters or of those that the group names."""
    names = sorted({name for leaf in members for name in leaf})
    filters = metric["filters"]
    filters = [filters] if isinstance(filters, str) else filters
    return [
        name
        for name in names
        if name.partition(",")[0] == metric["metric"]
        and (filters is None or name.partition(",")[2] in filters)
    ]


def _pooled(leaves: Sequence[Mapping[str, Any]], by_size: bool) -> dict[str, Any]:
    sizes = [leaf["documents"] for leaf in leaves]
    weights = sizes if by_size else [1] * len(sizes)
    products = [leaf["value"] * weight for leaf, weight in zip(leaves, weights, strict=True)]
    errors = [leaf["stderr"] for leaf in leaves]
    stated = [error for error in errors if error is not None]
    error = None
    if len(stated) == len(errors):
        error = _pooled_error(stated, sizes) if by_size else _mean_error(stated)
    return {"value": sum(products) / sum(weights), "stderr": error, "documents": sum(sizes)}


def _pooled_error(errors: Sequence[float], sizes: Sequence[int]) -> float:
    """Of a mean weighted by size: from the pooled variance of the tasks."""
    pairs = zip(sizes, errors, strict=True)
    variance = sum([(size - 1) * error**2 * size for size, error in pairs])
    return math.sqrt(variance / (sum(sizes) - len(sizes)) / sum(sizes))


def _mean_error(errors: Sequence[float]) -> float:
    return math.sqrt(sum([error**2 for error in errors])) / len(errors)


def _metrics(leaves: Mapping[str, Any]) -> list[str]:
    names = [name.partition(",")[0] for leaf in leaves.values() for name in leaf]
    return list(dict.fromkeys(names))


def _chosen(entry: DownstreamTask, scores: Mapping[str, Any]) -> str:
    """The `metric,filter` that the column shows: the one asked for, with or without its filter."""
    for metric in (entry.metric,) if entry.metric else (*PREFERRED, *_metrics({"": scores})):
        for name in scores:
            if metric in (name, name.partition(",")[0]):
                return name
    return ""


def _reads(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tokens, realised MLP density and hit rate over all shards."""
    sums = {
        kind: {
            group: sum(part[kind].get(group, 0) for part in parts)
            for group in dict.fromkeys(group for part in parts for group in part[kind])
        }
        for kind in ("places", "used", "hits")
    }
    used, hits = sum(sums["used"].values()), sum(sums["hits"].values())
    tokens = sum(part["tokens"] for part in parts)
    shares = {g: sums["used"][g] / n for g, n in sums["places"].items() if n}
    return {
        "tokens": tokens,
        "mlp_density": mlp_density(shares) if tokens else None,
        "hit_rate": hits / used if used and sums["hits"] else None,
    }
