"""Evaluations without a model, for tests of searches: losses and reads by a formula.

Loss per token of a window = that of the dense run + exp(a - b·density) · (1 + noise of the window),
more of it for smaller γ; the hit rate rises as γ falls. KL, where it is asked for, is 0.8 times
that difference with noise of its own, and never below 0. So perplexity falls and time grows with
the density, as with real models, and what a search should find is known.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest

from simulator import Geometry
from sweep.inputs import model_ref as weights
from sweep.inputs import texts
from sweep.plan.materials import Materials
from sweep.search import study
from sweep.spec import file as spec
from sweep.tasks import run as tasks

GEOMETRY = Geometry.load("smollm2-135m")
UNITS = {"input": GEOMETRY.hidden, "intermediate": GEOMETRY.intermediate}
DENSE_LOSS = 2.7


def install(monkeypatch: pytest.MonkeyPatch, noise: float = 0.15, steepness: float = 8.0) -> None:
    """From now on tasks follow the formula, and models and texts count as present."""

    def evaluate(payload: Any, where: Any, inputs: Any, device: str) -> tuple[dict[str, Any], Any]:
        return _evaluate(payload, noise, steepness)

    own = {"evaluate": evaluate, "simulate": _simulate}
    monkeypatch.setattr(tasks, "_function", lambda task, device: own[task.kind])
    monkeypatch.setattr(Materials, "fetch", lambda *_: None)
    monkeypatch.setattr(weights, "fingerprint", lambda _: "f" * 64)
    monkeypatch.setattr(weights, "tokenizer_fingerprint", lambda _: "t" * 64)
    monkeypatch.setattr(texts, "count", lambda *_, **__: 1000)


def _evaluate(
    payload: dict[str, Any], noise: float, steepness: float
) -> tuple[dict[str, Any], Any]:
    windows, tokens = payload["windows"], payload["window_tokens"]
    own = [_loss(payload, window, noise, steepness) * (tokens - 1) for window in windows]
    dense = payload["method"] == "dense"
    counted = payload["selector"].get("name") == "cache-aware"
    result = {
        "nll": own,
        "predicted": [tokens - 1] * len(windows),
        "tokens": tokens * len(windows),
        "mlp_density": payload["density"],
        "groups": _groups(payload, payload["selector"]["slots"]) if counted else {},
        "device": "cpu",
    }
    trace = {"payload": np.array(json.dumps(payload))}
    if "distances" in payload:
        kl = [0.8 * _more(payload, window, noise, steepness, "kl") for window in windows]
        result |= {"kl": [max(0.0, k) * (tokens - 1) for k in kl], "flips": [0] * len(windows)}
    return result, None if dense or counted else trace


def _simulate(payload: Any, where: Any, inputs: dict[str, Any], device: str) -> Any:
    evaluated = json.loads(str(inputs["trace"]["payload"]))
    return {"groups": _groups(evaluated, payload["slots"])}, None


def _loss(payload: dict[str, Any], window: int, noise: float, steepness: float) -> float:
    base = DENSE_LOSS + 0.3 * _drawn(payload["text"], window)
    if payload["method"] == "dense":
        return base
    return base + _more(payload, window, noise, steepness)


def _more(payload: dict[str, Any], window: int, noise: float, steepness: float, *of: str) -> float:
    """What a token of the window loses; `of` draws other noise."""
    gamma = payload["selector"].get("gamma", 1.0)
    size = np.exp(0.5 - steepness * payload["density"]) * (1 + 0.8 * (1 - gamma))
    size *= _of_layers(payload["parameters"].get("layers", ""), payload["density"])
    size *= 1.3 if payload["parameters"].get("allocation") == "uniform" else 1.0
    return float(size * (1 + noise * _drawn(payload["text"], window, payload["method"], *of)))


def _of_layers(layers: str, density: float) -> float:
    """Less loss where the first half of the layers has more than its share of the density."""
    own = [float(text) for text in layers.split()]
    half = own[: len(own) // 2]
    return float(np.exp(-4 * (np.mean(half) - density) - 8 * np.std(half))) if own else 1.0


def _drawn(*what: Any) -> float:
    """A number from a normal distribution that depends on `what` alone."""
    seed = int(hashlib.sha256(repr(what).encode()).hexdigest()[:8], 16)
    return float(np.random.default_rng(seed).normal())


def _groups(payload: dict[str, Any], slots: dict[str, int]) -> dict[str, Any]:
    gamma = payload["selector"].get("gamma", 1.0)
    phases = payload["window_tokens"] * len(payload["windows"]) * GEOMETRY.layers
    made = {}
    for group, cached in slots.items():
        used = int(payload["density"] * UNITS[group])
        rate = min(0.98, (cached / UNITS[group]) ** (0.3 + 0.7 * gamma))
        missed = int(used * (1 - rate))
        made[group] = {
            "phases": {"used": [used], "missed": [missed], "count": [phases]},
            "used_by_layer": [used] * GEOMETRY.layers,
            "hits_by_layer": [used - missed] * GEOMETRY.layers,
        }
    return made


def sweep_file(**changes: Any) -> dict[str, Any]:
    """A sweep `a` of dip on a small phone, and room for studies."""
    sweep = {
        "models": "smollm2-135m",
        "methods": ["dense", {"method": "dip", "density": {"from": 0.4, "to": 0.95, "step": 0.05}}],
        "devices": [{"device": "apple-a18", "dram_gb": 0.064, "flash_gbps": 1}],
        "windows": 8,
        "window_tokens": 32,
    }
    return {"sweeps": {"a": {**sweep, **changes}}}


def loaded(entry: dict[str, Any], **changes: Any) -> study.Study:
    """A study of that sweep, with some of its values changed."""
    return study.load(
        spec.from_mapping(sweep_file(**changes) | {"studies": {"s": entry}}, "f"), "s"
    )
