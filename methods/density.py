"""Densities: from that of the MLP to those of its weight groups, and to numbers of units."""

from __future__ import annotations

import math
from collections.abc import Mapping

COVERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "input": (("up", "gate"), "hidden"),
    "intermediate": (("down",), "intermediate"),
    "neuron": (("up", "gate", "down"), "intermediate"),
    "gate-neuron": (("gate", "down"), "intermediate"),
    "glu-neuron": (("up", "gate"), "intermediate"),
    "up-neuron": (("up", "down"), "intermediate"),
    "up-input": (("up",), "hidden"),
    "gate-input": (("gate",), "hidden"),
    "attn-input": (("q", "k", "v"), "hidden"),
    "attn-output": (("o",), "attention_width"),
}
"""For each weight group the matrices that it covers, and the size that its units run over: the
hidden one (a column of W_up and W_gate, or of W_q, W_k and W_v), the intermediate one, or that of
all heads together (SEMANTICS 1 and 8)."""

ATTENTION = ("attn-input", "attn-output")
"""Groups of attention; `density` is the MLP's and knows nothing of them."""

MLP_SHARE: Mapping[str, float] = {
    group: len(of) / 3 for group, (of, _) in COVERS.items() if group not in ATTENTION
}
"""Share of the MLP's weights that lies in each of its groups (up, gate and down are equally
large)."""


def kept_units(density: float, units: int) -> int:
    """Units that a token uses of a group of `units` at this density; at least 1."""
    return min(units, max(1, math.floor(density * units + 1e-9)))


def group_density(group: str, mlp_density: float) -> float:
    """Density of the only pruned group so that the MLP has `mlp_density`, the rest dense."""
    share = MLP_SHARE[group]
    return min(1.0, max(0.0, (mlp_density - (1 - share)) / share))


def mlp_density(group_densities: Mapping[str, float]) -> float:
    """MLP density that these densities of disjoint groups make together, the rest dense; groups of
    attention are no part of it."""
    of_mlp = {g: d for g, d in group_densities.items() if g not in ATTENTION}
    return 1.0 - sum(MLP_SHARE[g] * (1.0 - d) for g, d in of_mlp.items())


def reachable_density(groups: tuple[str, ...]) -> tuple[float, float]:
    """Lowest and highest MLP density when these groups may be pruned wholly."""
    low = 1.0 - sum(MLP_SHARE[g] for g in groups if g not in ATTENTION)
    return (0.0 if abs(low) < 1e-12 else low), 1.0
