"""What the names of a point's method, selector and policy stand for, as columns of the table.

Whoever reads the table guesses nothing from a name, so a plug-in counts for what it says it is.
"""

from __future__ import annotations

from typing import Any

from simulator.policies import policy_class
from sweep.plan.point import MethodTraits, Point

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
    if selector == "cache-aware":
        return f"{method.name}-ca"
    plain = selector in ("topk", method.selector)
    return method.name if plain else f"{method.name} ({selector})"


def is_bound(point: Point) -> bool:
    """Whether no device can run the point: the method is an oracle, or the policy looks ahead."""
    return point.traits.oracle or policy_class(point.policy).offline


def policy_rank(policy: str) -> int:
    """Place of a policy from the simplest on; equal points are told apart by it."""
    return _SIMPLEST.index(policy) if policy in _SIMPLEST else len(_SIMPLEST)
