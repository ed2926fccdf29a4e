"""Labels of tasks: what a person reads of them in progress, logs and failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.keys import digest
from sweep.tasks.payloads import MethodRun, SelectorPayload

THRESHOLD_SELECTORS = ("layer-threshold", "global-threshold")


def run_label(payload: MethodRun, model: str) -> str:
    """Of a run of a method on a model, whose name and changes of weights are `model`."""
    chosen = payload["method"] != "dense" and "lam" not in payload["selector"]
    density = f" {payload['density']:g}" if chosen else ""
    parameters = parameters_label(payload["parameters"])
    selector = payload["selector"]
    return f"{payload['method']}{density}{parameters}{_selector_label(selector)} {model}"


def _selector_label(selector: SelectorPayload) -> str:
    name = selector.get("name", "")
    if "policy" in selector and "slots" in selector:
        named = f" {name}" if name.endswith("-threshold") else ""
        named = f" λ={selector['lam']:g}" if "lam" in selector else named
        weight = f" γ={selector['gamma']:g}" if "gamma" in selector else named  # rules have none
        return f"{weight} {selector['policy']} {slots_label(selector['slots'])}"
    return f" {name}" if name in THRESHOLD_SELECTORS else ""


def windows_label(shard: tuple[int, ...]) -> str:
    """Which windows a shard has."""
    first, last, count = shard[0], shard[-1], len(shard)
    if count == 1:
        return f"window {first}"
    if shard == tuple(range(first, last + 1)):
        return f"window {first}-{last}"
    return f"window {first} and {count - 1} more"


def parameters_label(parameters: Mapping[str, Any]) -> str:
    """Values of parameters for a label, each after a space; densities by layer as a digest."""
    written = {k: v for k, v in parameters.items() if v != ""}
    if written.get("shares") != "tpe":
        written.pop("trials", None)
    return "".join(f" {_parameter_text(name, value)}" for name, value in written.items())


def _parameter_text(name: str, value: Any) -> str:
    if name == "layers":
        return f"by-layer-{digest(value)[:6]}"
    own_shares = name == "shares" and " " in str(value)
    return f"shares-{digest(value)[:6]}" if own_shares else str(value)


def slots_label(slots: Mapping[str, int]) -> str:
    """Cached units, group after group."""
    return "/".join(str(units) for units in slots.values())
