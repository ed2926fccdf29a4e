"""Rules of a sweep that drop points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sweep.spec.entries import ALIASES, ExcludeRule

if TYPE_CHECKING:
    from sweep.plan.point import Point


def excluded_by(index: int, rule: ExcludeRule) -> tuple[str, Callable[[Point], bool]]:
    """A rule as text and as a test of a point."""
    allowed = {key: frozenset(getattr(rule, key)) for key in rule.model_fields_set & set(_READ)}
    of_method = {key: frozenset(values) for key, values in rule.parameters.items()}

    def matches(point: Point) -> bool:
        parameters: Mapping[str, object] = dict(point.parameters) if of_method else {}
        return (
            all(_READ[key](point) in values for key, values in allowed.items())
            and (not rule.method or any(is_method(point, name) for name in rule.method))
            and all(parameters.get(key) in values for key, values in of_method.items())
        )

    conditions = [(key, getattr(rule, key)) for key in ExcludeRule.model_fields]
    conditions += rule.parameters.items()
    text = ", ".join(f"{key} {'/'.join(map(str, values))}" for key, values in conditions if values)
    return f"exclude[{index}]: {text}", matches


_READ: Mapping[str, Callable[[Point], object]] = {
    "model": lambda point: point.model,
    "density": lambda point: point.density,
    "gamma": lambda point: point.gamma,
    "policy": lambda point: point.policy,
    "device": lambda point: point.device.name,
    "dram_gb": lambda point: point.device.dram_gb,
    "flash_gbps": lambda point: point.device.flash_gbps,
    "dram_gbps": lambda point: point.device.dram_gbps,
    "context": lambda point: point.kv_tokens,
    "timing": lambda point: point.timing,
    "quant": lambda point: point.quant.method,
    "bits": lambda point: point.quant.bits,
}


def is_method(point: Point, name: str) -> bool:
    """Whether the point is of that method; `dip-ca` is `dip` with any gamma below 1."""
    method, gamma = ALIASES.get(name, (name, 1.0))
    return point.method == method and (gamma == 1 or point.gamma < 1)


def aliases_of(point: Point) -> list[str]:
    """All names of the point's method."""
    return [point.method, *(name for name in ALIASES if is_method(point, name))]
