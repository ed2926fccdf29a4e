"""What LoSA allots to layers: sparsities by what others have in common, ranks by errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_RANK, MOST_RANK = 1, 16
RELEASED_RANK = 8
"""Rank that the adapters of released code have, whatever is allotted to them."""


def delta(sparsity: float) -> float:
    """How far a layer may be from the mean sparsity."""
    allowed = 0.01 if sparsity <= 0.5 else 0.02 if sparsity <= 0.6 else 0.03
    return max(0.0, min(allowed, sparsity, 1 - sparsity))


def importances(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(-rho_l) [layers] from the CKA of the inputs of each two layers [layers, layers]."""
    others = similarity.sum(1) - similarity.diagonal()
    total = others.sum()
    return np.exp(-others / total) if total > 0 else np.ones(len(similarity))


def layer_sparsities(importance: NDArray[np.float64], mean: float) -> list[float]:
    """s_l: the linear programme's solution, half of the layers at each bound.

    The less important half gets mean + delta, the other mean - delta, one between them the mean.
    """
    layers, bound = len(importance), delta(mean)
    order = np.argsort(importance, kind="stable")
    found = [mean] * layers
    for place, layer in enumerate(order):
        side = (place < layers // 2) - (place >= layers - layers // 2)
        found[int(layer)] += side * bound
    return found


def ranks(errors: Sequence[float], mean: int, once: bool = False) -> list[int]:
    """Whole ranks in proportion to errors, of at least 1 and at most 16, with this mean.

    Where rounding and these bounds miss the mean, layers of least error give up one after another,
    or those of most error get one more: `once`, or until the mean is met.
    """
    given, layers = np.asarray(errors, np.float64), len(errors)
    total = given.sum()
    wanted = given / total * mean * layers if total > 0 else np.full(layers, float(mean))
    found = [min(MOST_RANK, max(LEAST_RANK, round(rank))) for rank in wanted]
    missing = min(mean, MOST_RANK) * layers - sum(found)
    step, bound = (1, MOST_RANK) if missing > 0 else (-1, LEAST_RANK)
    order = np.argsort(-step * given, kind="stable")
    for _ in range(1 if once else math.ceil(abs(missing))):
        for layer in order:
            if missing and found[layer] != bound:
                found[layer] += step
                missing -= step
    return found
