"""What the names of a point's method, selector and policy stand for, as columns of the table.

Whoever reads the table guesses nothing from a name, so a plug-in counts for what it says it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from simulator.cache_shares import told
from simulator.policies import policy_class
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import MethodTraits, Point
from sweep.plan.weight_steps import quant_label

_SIMPLEST = ("none", "lru", "lfu", "static")
"""Policies by what they keep: nothing, an order, counts, a calibration. Others come last."""


def columns(point: Point) -> dict[str, Any]:
    """The columns of a point that say what its names stand for."""
    return {
        "series": series(point.traits, point.selector),
        "bound": is_bound(point),
        "policy_offline": policy_class(point.policy).offline,
        "policy_rank": policy_rank(point.policy),
    }


def series(method: MethodTraits, selector: str) -> str:
    """What is compared as one line: `dip` under top-k or a selector that is the method's own,
    `dip-ca` when cache-aware, else `dip (selector)`."""
    if selector == "cache-aware" and not method.routes:
        return f"{method.name}-ca"
    plain = selector in ("topk", method.selector)
    return method.name if plain else f"{method.name} ({selector})"


def is_bound(point: Point) -> bool:
    """Whether no device can run the point: the method is an oracle, or the policy looks ahead."""
    return point.traits.oracle or policy_class(point.policy).offline


def policy_rank(policy: str) -> int:
    """Place of a policy from the simplest on; equal points are told apart by it."""
    return _SIMPLEST.index(policy) if policy in _SIMPLEST else len(_SIMPLEST)


def _quant(point: Point) -> str:
    quant = point.quant
    return quant_label(quant.method, quant.bits, quant.group_size, dict(quant.parameters))


def _allocation(parameters: Mapping[str, Any]) -> str | None:
    """How the density is split over groups, and whether over layers."""
    by_layer = ", by layer" if parameters.get("layers") else ""
    return f"{parameters['allocation']}{by_layer}" if "allocation" in parameters else None


def identity(planned: PlannedPoint) -> dict[str, Any]:
    """Columns that say what the point is."""
    point = planned.point
    return {
        "sweep": point.sweep,
        "point_key": point.key,
        "model": point.variant,
        "activation": point.swap.activation if point.swap else "",
        "distil_tokens": point.swap.tokens if point.swap else None,
        "quant": _quant(point),
        "method": point.method,
        "selector": point.selector,
        "density": point.density if point.lam is None else None,
        "gamma": point.gamma,
        "chunk": point.chunk,
        "lam": point.lam,
        "preload_layers": point.preload_layers,
        "cache_shares": told(point.cache_shares),
        "allocation": _allocation(dict(point.parameters)),
        "parameters": json.dumps(dict(point.parameters)),
        "policy": point.policy,
        "device": point.device.name,
        "dram_gb": point.device.dram_gb,
        "flash_gbps": point.device.flash_gbps,
        "dram_gbps": point.device.dram_gbps,
        "context": point.kv_tokens,
        "dense_tokens": point.accuracy.dense_tokens,
        "seed": point.accuracy.seed,
        "error": "",
        "timing": point.timing,
        "cache_start": point.cache_start,
        "cache_scope": point.cache_scope,
        "window_tokens": point.accuracy.window_tokens,
        "text": point.accuracy.text,
        "dtype": point.accuracy.dtype,
        "geometry": None,
        "task_keys": json.dumps(planned.keys),
    }
