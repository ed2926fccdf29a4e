"""What drops points: rules of a sweep, models that are better dropped, choices that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from methods.base import GIVEN
from methods.registry import create
from simulator.device import Device
from sweep.errors import InputError
from sweep.plan.point import CACHED_SELECTORS, MethodTraits, Parameters, Point
from sweep.spec.entries import ALIASES, ExcludeRule, MethodEntry
from sweep.spec.names import LAM


def excluded_by(index: int, rule: ExcludeRule) -> tuple[str, Callable[[Point], bool]]:
    """A rule as text and as a test of a point."""
    allowed = {key: frozenset(getattr(rule, key)) for key in rule.model_fields_set & set(_READ)}
    of_method = {key: frozenset(values) for key, values in rule.parameters.items()}

    def matches(point: Point) -> bool:
        parameters: Mapping[str, object] = dict(point.parameters) if of_method else {}
        parameters = {"lam": point.lam, **parameters}
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
    "density": lambda point: None if point.lam is not None else point.density,
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


def check_each(models: Mapping[str, Any], check: Callable[[Any], object], name: str) -> None:
    """Check what is given of each model of the sweep `name`.

    Raises InputError that says of every refused model why, and how the others can be run.
    """
    faults: dict[str, str] = {}
    for model, given in models.items():
        try:
            check(given)
        except InputError as error:
            faults[model] = str(error)
    left = [model for model in models if model not in faults]
    if faults and left:
        some = "is refused" if len(faults) == 1 else "are refused"
        faults[""] = (
            f"{len(faults)} of {len(models)} models {some}; the others run with "
            f"--set 'sweeps.{name}.models=[{', '.join(left)}]'"
        )
    if faults:
        raise InputError("\n".join(faults.values()))


def unfit(method: MethodTraits, selector: str, gamma: float, chunk: int, entry: MethodEntry) -> str:
    """Why a selector does not go with gamma or chunk; empty if it does."""
    if method.routes and (gamma < 1 or chunk > 1):
        return f"{method.name} chooses whole experts: gamma and chunk are for neurons"
    if gamma < 1 and selector != "cache-aware":
        return _not_by_cache(method, selector, entry)
    if chunk > 1 and method.groups and selector.endswith("-threshold"):
        return f"chunks are chosen by topk, the cache or their reads, not by {selector}"
    return ""


def prices(method: MethodTraits, parameters: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Prices of a second of reads that an entry's `parameters` ask for, which are then no longer
    among them; None alone where `lam` is a parameter of the method, or there is none."""
    if method.dense or method.routes:
        return (None,)
    asked = parameters.pop(LAM, ())
    return tuple(map(float, asked)) or (None,)


def unread(method: MethodTraits, selector: str, device: Device, layout: str) -> str:
    """Why a method or selector does not go with a device or layout; empty if it does."""
    if layout == "coactive" and method.routes:
        return f"{method.name} reads whole experts: layout coactive is for neurons"
    if selector == "resident-threshold" and device.read_cost() is not None:
        return f"{selector} counts hits and no reads, which cost on {device.name}"
    if selector != "read-aware":
        return ""
    if device.read_cost() is None:
        return f"read-aware selection needs what a read costs, which {device.name} does not say"
    return ""


def unannounced(
    method: MethodTraits, density: float, parameters: Parameters, selector: str, layers: int
) -> str:
    """Why so many layers cannot be read ahead together; empty if they can, or if none are."""
    if not layers or not method.groups:
        return ""
    if selector in CACHED_SELECTORS or method.routes:
        return f"what is read ahead are masks that {selector} of {method.name} cannot announce"
    announced = create(method.name, density, **dict(parameters)).announced_layers()
    needed = 2 * layers - 1  # from the first layer of a step to the last of the next
    if announced < needed:
        return (
            f"{layers} layers at a time are read ahead where masks are announced for {needed}, and "
            f"{method.name} announces its own for {announced}"
        )
    return ""


def _not_by_cache(method: MethodTraits, selector: str, entry: MethodEntry) -> str:
    """Why gamma below 1 makes no point with this selector: top-k alone gives way to the cache."""
    if method.selector == GIVEN:
        return f"{method.name} decides its masks itself, and gamma below 1 leaves them to the cache"
    reason = f"gamma below 1 selects by the cache, not by {selector}"
    if entry.selector:
        return reason
    return f"{reason}, the selector of {method.name}; selector: topk in its entry asks for it"
