"""Densities: from that of the MLP to those of its weight groups, and to numbers of units."""

from __future__ import annotations

import math
from collections.abc import Mapping

COVERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "input": (("up", "gate"), "hidden"),
    "intermediate": (("down",), "intermediate"),
    "neuron": (("up", "gate", "down"), "intermediate"),
    "gate-neuron": (("gate", "down"), "intermediate"),
    "up-neuron": (("up", "down"), "intermediate"),
    "up-input": (("up",), "hidden"),
    "gate-input": (("gate",), "hidden"),
}
"""For each weight group the MLP matrices that it covers, and the size that its units run over: the
hidden one (a column of W_up and W_gate) or the intermediate one (SEMANTICS 1)."""

MLP_SHARE: Mapping[str, float] = {group: len(of) / 3 for group, (of, _) in COVERS.items()}
"""Share of the MLP's weights that lies in each group (up, gate and down are equally large)."""


def kept_units(density: float, units: int) -> int:
    """Units that a token uses of a group of `units` at this density; at least 1."""
    return min(units, max(1, math.floor(density * units + 1e-9)))


def group_density(group: str, mlp_density: float) -> float:
    """Density of the only pruned group so that the MLP has `mlp_density`, the rest dense."""
    share = MLP_SHARE[group]
    return min(1.0, max(0.0, (mlp_density - (1 - share)) / share))


def mlp_density(group_densities: Mapping[str, float]) -> float:
    """MLP density that these densities of disjoint groups make together, the rest dense."""
    return 1.0 - sum(MLP_SHARE[g] * (1.0 - d) for g, d in group_densities.items())


def reachable_density(groups: tuple[str, ...]) -> tuple[float, float]:
    """Lowest and highest MLP density when these groups may be pruned wholly."""
    low = 1.0 - sum(MLP_SHARE[g] for g in groups)
    return (0.0 if abs(low) < 1e-12 else low), 1.0
