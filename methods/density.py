"""Densities: from that of the MLP to those of its weight groups, and to numbers of units."""

from __future__ import annotations

import math
from collections.abc import Mapping

MLP_SHARE: Mapping[str, float] = {
    "input": 2 / 3,
    "intermediate": 1 / 3,
    "neuron": 1.0,
    "gate-neuron": 2 / 3,
    "up-neuron": 2 / 3,
    "up-input": 1 / 3,
    "gate-input": 1 / 3,
}
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
