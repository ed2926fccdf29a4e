"""What the names of a point's method, selector and policy stand for, as columns of the table.

Whoever reads the table guesses nothing from a name, so a plug-in counts for what it says it is.
"""

from __future__ import annotations

from typing import Any

from methods.registry import method_class
from simulator.policies import policy_class
from sweep.plan.grid import Point

_ORACLES = frozenset({"glu-oracle"})
"""Built-in methods that are told the future; a plug-in says `oracle = True` in its class."""
_SIMPLEST = ("none", "lru", "lfu", "static")
"""Policies by what they keep: nothing, an order, counts, a calibration. Others come last."""


def columns(method: str, selector: str, policy: str) -> dict[str, Any]:
    """The columns of a point that say what its names stand for."""
    return {
        "series": series(method, selector),
        "bound": knows_future(method, policy),
        "policy_offline": policy_class(policy).offline,
        "policy_rank": policy_rank(policy),
    }


def series(method: str, selector: str) -> str:
    """What is compared as one line: `dip` under top-k or a selector that is the method's own,
    `dip-ca` when cache-aware, else `dip (selector)`."""
    if selector == "cache-aware":
        return f"{method}-ca"
    own = selector in ("topk", method_class(method).selector)
    return method if own else f"{method} ({selector})"


def is_bound(point: Point) -> bool:
    """Whether no device can run the point, because it needs to know the future."""
    return knows_future(point.method, point.policy)


def knows_future(method: str, policy: str) -> bool:
    """Whether the method is an oracle, or the policy looks ahead."""
    oracle = method in _ORACLES or getattr(method_class(method), "oracle", False)
    return bool(oracle) or policy_class(policy).offline


def policy_rank(policy: str) -> int:
    """Place of a policy from the simplest on; equal points are told apart by it."""
    return _SIMPLEST.index(policy) if policy in _SIMPLEST else len(_SIMPLEST)
