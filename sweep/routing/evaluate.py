"""Accuracy tasks of mixtures of experts: perplexity with a routing rule, and what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from methods.experts.apply import routed
from methods.experts.rules import GROUP, Rule
from methods.experts.view import RoutedLayer, routed_layers
from methods.registry import create
from sweep.inputs import models
from sweep.measures.distances import Dense, Distance, dense
from sweep.measures.losses import Watch, losses, prove
from sweep.routing.routes import Routes
from sweep.tasks.prelude import changed_model, text_windows

if TYPE_CHECKING:
    from sweep.tasks.payloads import Evaluate, MethodRun, ModelWhere, Where


def evaluate(
    payload: Evaluate, where: Where, inputs: dict[str, Any], device: str
) -> tuple[dict[str, Any], Any]:
    """Losses and reads of a shard of windows under a routing rule, as `sweep.tasks.evaluate` has
    them; hands over the trace of experts of a rule that reads no cache."""
    windows = text_windows(payload, where, payload["windows"])
    rule = rule_of(payload)
    routes = Routes(rule, payload["selector"], _start(inputs))
    prove(models.loaded(where["model"], payload["dtype"], device))
    expected = _expected(payload, where, inputs, device, windows)
    distances = [Distance() for _ in expected]
    watches = [known.watch(distance) for known, distance in zip(expected, distances, strict=True)]
    dense_tokens = payload.get("dense_tokens", 0)
    with routed_model(payload, where, inputs, device, rule, routes) as (model, layers):
        nll, routes.layers = [], layers
        for window, watch in zip(windows, watches or [None] * len(windows), strict=True):
            routes.begin_window(len(window), dense_tokens)
            nll.append(_nll(model, window, watch))
        inside = rule.part(layers[0].hidden, layers[0].intermediate)
    figures = routes.figures()
    result: dict[str, Any] = {
        "nll": nll,
        "predicted": [len(window) - 1 for window in windows],
        "tokens": int(windows.size),
        "mlp_density": figures["used"] / figures["stock"] * inside,
        "groups": routes.groups(),
        "device": device,
        "routing": figures,
    }
    if distances:
        result["kl"] = [distance.kl for distance in distances]
        result["flips"] = [distance.flips for distance in distances]
    if spread := routes.spread():
        result["spread"] = spread
    result |= routes.announced()
    final = payload["selector"].get("traced", not routes.reads_cache)
    return result, routes.trace() if final else None


def rule_of(payload: MethodRun) -> Rule:
    """The rule that the task runs."""
    method = create(payload["method"], payload["density"], **payload["parameters"])
    assert isinstance(method, Rule)
    return method


@contextmanager
def routed_model(
    payload: MethodRun,
    where: ModelWhere,
    inputs: Mapping[str, Any],
    device: str,
    rule: Rule,
    routes: Routes,
) -> Iterator[tuple[nn.Module, list[RoutedLayer]]]:
    """The model of a task with its experts chosen by `routes`, and its layers of experts."""
    with (
        changed_model(payload, where, inputs, device) as model,
        torch.inference_mode(),
        routed(model, routes, rule.inner()) as layers,
    ):
        yield model, layers


def _start(inputs: Mapping[str, Any]) -> NDArray[np.int64] | None:
    return inputs["start"][GROUP] if "start" in inputs else None


def _expected(
    payload: Evaluate,
    where: Where,
    inputs: dict[str, Any],
    device: str,
    windows: NDArray[np.int64],
) -> list[Dense]:
    """What the model itself expects in each window, where distances to it are asked for."""
    asked = payload.get("distances")
    if asked is None:
        return []
    with changed_model(payload, where, {}, device) as model, torch.inference_mode():
        routed_layers(model)

        def run(window: NDArray[np.int64], watch: Watch) -> None:
            _nll(model, window, watch)

        return [
            dense(asked["dense"], number, len(window), partial(run, window))
            for number, window in zip(payload["windows"], windows, strict=True)
        ]


def _nll(model: nn.Module, window: NDArray[np.int64], watch: Watch | None) -> float:
    """Summed negative log-likelihood of a window's tokens but the first, in float32."""
    tokens = torch.from_numpy(window)[None].to(next(model.parameters()).device)  # [1, tokens]
    total = float(losses(model, tokens, watch).double().sum())
    if not np.isfinite(total):
        raise FloatingPointError(f"the loss of a window is {total}")
    return total
