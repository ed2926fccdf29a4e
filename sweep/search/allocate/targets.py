"""What an allocation meets, and the shares that meet it at the least loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from methods import lagrange
from methods.density import MLP_SHARE
from sweep.errors import InputError

Floats = NDArray[np.float64]
Kind = Literal["density", "missed", "kl"]


@dataclass(frozen=True, slots=True)
class Target:
    """A mean density; or bytes of MLP weights that a token reads from Flash, at most; or a mean KL
    to the dense model, at most, for as few of these bytes as can be."""

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        most = 1.0 if self.kind == "density" else np.inf
        if not 0 < self.amount <= most:
            name = {"density": "--density", "missed": "--missed-mb", "kl": "--kl"}[self.kind]
            limit = " and at most 1" if self.kind == "density" else ""
            raise InputError(f"{name} {self.amount:g}: a number above 0{limit} is expected")

    @property
    def label(self) -> str:
        """As in the names of files."""
        if self.kind == "missed":
            return f"{self.amount / 1e6:g}mb"
        return f"{self.kind}-{self.amount:g}"


@dataclass(frozen=True, slots=True)
class Curves:
    """What each group of each layer loses and reads at some shares, the largest first: each array
    is [layers, groups, options]."""

    groups: tuple[str, ...]
    shares: Floats
    kl: Floats
    """Mean KL to the dense model with this share and all else as it is where it was measured."""
    missed: Floats
    """Bytes that a token reads from Flash for this group of this layer, in the mean."""
    kl_before: float = 0.0
    """KL where no item has given up anything."""

    @property
    def weights(self) -> Floats:
        """Share of all MLP weights that is in each group of a layer, [groups]."""
        return np.array([MLP_SHARE[group] for group in self.groups]) / len(self.shares)


def solve(curves: Curves, target: Target) -> Floats:
    """Shares [layers, groups] that meet the target, or come as near to it as what was measured
    goes, with the least KL (or least bytes), as if both added up."""
    layers, groups, options = curves.shares.shape
    values = curves.shares.reshape(-1, options)
    losses = curves.kl.reshape(-1, options)
    weights = np.tile(curves.weights, layers)
    costs = curves.missed.reshape(-1, options)
    limits = {"most_cost": target.amount}
    if target.kind == "density":
        costs = weights[:, None] * values
        limits = {"most_cost": target.amount - (1 - float(weights.sum()))}
    elif target.kind == "kl":
        limits = {"most_loss": target.amount - curves.kl_before}
    kept = lagrange.kept_costs(costs, losses, **limits)
    return lagrange.at_cost(costs, values, kept).reshape(layers, groups)
