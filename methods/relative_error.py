"""CETT: how large what is left out of an MLP is, beside its output, at each share of neurons.

CETT of a layer = mean over tokens of ||sum over inactive neurons of z_i W_down[:, i]|| over
||sum over all of them||, with z = GLU(x); a neuron is inactive where ||z_i W_down[:, i]|| is below
the layer's threshold. The source tries 65,536 thresholds by bisection; here the whole curve is
measured at the thresholds of 40 shares, and a straight line lies between two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.matrices import column_norms
from methods.mlp import GatedMLP, gated_mlps
from methods.share_search import dense_inputs
from methods.training import Arrays, Lesson

RUNGS = 40
"""Shares at which the error is measured, from 1 down to 0 in equal steps."""

_SHARES, _ERRORS = "cett.shares", "cett.errors"
_LEAN = 1e-9
"""Makes errors differ where they are equal, as those of shares with nothing but zeros left out."""


def curves(model: nn.Module, lesson: Lesson) -> Arrays:
    """The shares of neurons that are active and their CETT, both [layers, RUNGS + 1]."""
    views = gated_mlps(model)
    inputs = dense_inputs(model, views, lesson.windows)
    found = [curve(view, inputs[view.layer]) for view in views]
    return {_SHARES: np.stack([s for s, _ in found]), _ERRORS: np.stack([e for _, e in found])}


@torch.no_grad()
def curve(mlp: GatedMLP, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of active neurons and CETT of a layer at falling shares, on inputs [..., hidden]."""
    glu = mlp.glu(x.reshape(-1, x.shape[-1]))  # [tokens, intermediate]
    sizes = glu.abs().float() * column_norms(mlp, "down", order=2)
    ordered = sizes.flatten().sort().values
    nothing = mlp.down(torch.zeros_like(glu[:1]))  # the bias
    whole = (mlp.down(glu) - nothing).float().norm(dim=-1)
    shares, errors = [1.0], [0.0]
    for rung in range(1, RUNGS):
        active = sizes >= ordered[rung * len(ordered) // RUNGS]
        left_out = (mlp.down(glu * ~active) - nothing).float().norm(dim=-1)
        shares.append(float(active.double().mean()))
        errors.append(float((left_out / whole.clamp_min(1e-30)).double().mean()))
    return np.array([*shares, 0.0]), np.array([*errors, 1.0])


def at_error(arrays: Mapping[str, NDArray[Any]], cett: float) -> list[float]:
    """The share of neurons that each layer keeps at this CETT."""
    pairs = zip(arrays[_SHARES], arrays[_ERRORS], strict=True)
    return [float(np.interp(cett, _rising(errors, own), own)) for own, errors in pairs]


def _rising(errors: NDArray[Any], shares: NDArray[Any]) -> NDArray[Any]:
    return np.maximum.accumulate(errors) + _LEAN * (1 - shares)


def cett_at(arrays: Mapping[str, NDArray[Any]], density: float) -> float:
    """The CETT at which layers keep this share of their neurons, in the mean; by bisection."""
    low, high = 0.0, 2.0 + float(arrays[_ERRORS].max())
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean(at_error(arrays, middle)) > density:
            low = middle
        else:
            high = middle
    return high


def shares(arrays: Mapping[str, NDArray[Any]], density: float) -> list[float]:
    """A share of neurons for each layer, with this mean, at which all have one CETT."""
    return at_error(arrays, cett_at(arrays, density))


def summary(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The CETT of each density, as JSON, and what layers keep at half."""
    found = {f"{d / 10:g}": cett_at(arrays, d / 10) for d in range(1, 10)}
    return {"cett_by_density": found, "shares_by_layer": shares(arrays, 0.5)}
