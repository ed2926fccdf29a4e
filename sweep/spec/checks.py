"""What the shape of a sweep file cannot say: faults that need several of its values at once.

The checks read the plain document, not the models, so that they speak although something else in
the file is wrong; a value whose shape is wrong is passed over here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import Any, TypeGuard

from pydantic_core import PydanticCustomError

import methods
from methods.registry import method_class
from simulator.device import Device
from sweep.messages import nearest, show
from sweep.spec import spaces
from sweep.spec.checks_quant import check_quants
from sweep.spec.document import Document, Route
from sweep.spec.entries import (
    ALIASES,
    ExcludeRule,
    MethodEntry,
    method_names,
)
from sweep.spec.names import LAM, MAPPINGS
from sweep.spec.values import LABEL, Number, parameter_values, spread

_OWN_DEVICE = ("dram_gb", "flash_gbps", "dram_gbps")
_MAX_COMBINATIONS = 200
_MAX_DENSITIES = 1_000


def check(document: Document) -> None:
    """Add the faults of every sweep and study to the document."""
    top = document.value if isinstance(document.value, dict) else {}
    check_quants(document, ("defaults", "quant"), _mapping(top.get("defaults")).get("quant"))
    sweeps = _mapping(top.get("sweeps"))
    for name, sweep in sweeps.items():
        if isinstance(sweep, dict):
            _Sweep(document, ("sweeps", name), sweep).check()
    for name, study in _mapping(top.get("studies")).items():
        if isinstance(study, dict):
            _study(document, ("studies", name), study, sweeps)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any, route: Route) -> list[tuple[Route, Any]]:
    """Values of an axis with the place of each; none where its shape is wrong."""
    try:
        values = spread(value)
    except PydanticCustomError:
        return []
    if isinstance(value, list):
        return [((*route, i), item) for i, item in enumerate(values)]
    return [(route, item) for item in values]


def _study(document: Document, route: Route, study: Mapping[str, Any], sweeps: Any) -> None:
    name = study.get("sweep")
    if isinstance(name, str) and name not in sweeps:
        document.fault((*route, "sweep"), f"no sweep {show(name)}{nearest(name, sweeps)}")
    search = study.get("search")
    if search == {}:
        document.fault((*route, "search"), "there is nothing to search; name a parameter")
    parameters = tuple(p for method in methods.names() for p in methods.parameter_names(method))
    parameters += searched_axes()
    for key, choice in _mapping(search).items():
        fault = spaces.fault(key, choice, parameters)
        if fault:
            document.fault((*route, "search", key), fault)
    for i, point in enumerate(_enqueued(study)):
        for key in point:
            if key not in _mapping(search):
                text = f"is not searched{nearest(str(key), _mapping(search))}"
                document.fault((*route, "enqueue", i, key), text)
    _Sweep(document, route, {}).check_devices(study)
    _objective(document, (*route, "objective"), study.get("objective"))


def _enqueued(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    points = study.get("enqueue")
    return [_mapping(point) for point in (points if isinstance(points, list) else [points])]


def _objective(document: Document, route: Route, objective: Any) -> None:
    if not isinstance(objective, dict):
        return
    goals = [m for key in ("maximize", "minimize") for _, m in _items(objective.get(key, []), ())]
    if not 1 <= len(goals) <= 2:
        text = "an objective has either 'maximize' or 'minimize', or both: one or two metrics"
        document.fault(route, text)
    elif len(set(map(str, goals))) < len(goals):
        document.fault(route, f"{goals[0]} is named twice")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Sweep:
    """Checks of one sweep: names across its lists, devices, densities, parameters."""

    def __init__(self, document: Document, route: Route, sweep: Mapping[str, Any]) -> None:
        self.document = document
        self.route = route
        self.sweep = sweep
        models = [
            _mapping(item).get("model", item) for _, item in self._entries("models", self.route)
        ]
        self.models = [m for m in models if isinstance(m, str)]

    def check(self) -> None:
        self._devices(self.sweep, self.route)
        check_quants(self.document, (*self.route, "quant"), self.sweep.get("quant"))
        for key in ("methods", "include"):
            for route, entry in self._entries(key, self.route):
                self._method(route, {"method": entry} if isinstance(entry, str) else entry)
        for route, rule in self._entries("exclude", self.route):
            if isinstance(rule, dict):
                self._exclude(route, rule)

    def _entries(self, key: str, route: Route) -> list[tuple[Route, Any]]:
        return _items(self.sweep.get(key), (*route, key))

    # devices

    def check_devices(self, holder: Mapping[str, Any]) -> None:
        """The `devices` of a mapping that is no sweep."""
        self._devices(holder, self.route)

    def _devices(self, holder: Mapping[str, Any], route: Route) -> None:
        served: set[str] = set()
        items = _items(holder.get("devices"), (*route, "devices"))
        for item_route, written in items:
            entry = {"device": written} if isinstance(written, str) else written
            if isinstance(entry, dict):
                self._device(item_route, entry)
                self._of_the_sweep(item_route, entry)
                names = [name for _, name in _items(entry.get("models"), ())]
                all_known = bool(names) and all(name in self.models for name in names)
                served |= set(names) if all_known else set(self.models)
        for model in self.models if items and holder is self.sweep else ():
            if model not in served:
                self.document.fault((*route, "devices"), f"no device is given for model {model}")

    def _device(self, route: Route, entry: Mapping[str, Any]) -> None:
        """A device is a preset, or the user's own with all three numbers."""
        name = entry.get("device")
        missing = [key for key in _OWN_DEVICE if key not in entry]
        if not missing or not _is_label(name) or name in Device.names():
            return
        lacks = f"a device of your own also needs {', '.join(missing)}"
        text = f"unknown device {show(name)}{nearest(name, Device.names())}; {lacks}"
        self.document.fault(self.document.written((*route, "device")), text)

    def _of_the_sweep(self, route: Route, entry: Mapping[str, Any]) -> None:
        """`models` of an entry names models of the sweep."""
        for item_route, name in _items(entry.get("models"), (*route, "models")):
            if isinstance(name, str) and self.models and name not in self.models:
                text = f"{show(name)} is not among the sweep's models{nearest(name, self.models)}"
                self.document.fault(item_route, text)

    # methods

    def _method(self, route: Route, entry: Any) -> None:
        if not isinstance(entry, dict):
            return
        self._of_the_sweep(route, entry)
        self._devices(entry, route)
        check_quants(self.document, (*route, "quant"), entry.get("quant"))
        names_known = _known_methods(entry.get("method"))
        if priced := _is_priced(entry, names_known):
            for item_route, fault in _price_faults(entry, names_known):
                self.document.fault((*route, *item_route), fault)
        names = self._parameters(route, entry, names_known)
        free = [name for name in names_known if not _has_one_density(name, entry, names)]
        if free and "density" not in entry and not priced:
            absent = _absent_file(entry.get("shares"))
            text = absent or f"'density' is missing{_reach(free[0], {})}"
            self.document.fault((*route, "shares") if absent else route, text)
        for name in names_known:
            for parameters in _combinations(entry, names):
                self._reachable(route, entry, name, parameters)

    def _parameters(self, route: Route, entry: Mapping[str, Any], named: list[str]) -> list[str]:
        """The entry's parameters that all its methods have; faults for the other keys."""
        by_method = [set(methods.parameter_names(name)) for name in named or methods.names()]
        shared = set.intersection(*by_method) if named else set.union(*by_method)
        allowed = [*sorted(shared), *MethodEntry.model_fields]
        good = []
        for key in entry:
            if key in MethodEntry.model_fields or (key == LAM and _is_priced(entry, named)):
                continue
            if key not in shared:
                whom = f" of an entry of {' and '.join(named)}" if named else ""
                self.document.fault((*route, key), f"unknown key{whom}{nearest(key, allowed)}")
            elif fault := _axis_fault(key, entry[key]):
                self.document.fault((*route, key), fault)
            else:
                good.append(key)
        return good

    def _reachable(
        self, route: Route, entry: Mapping[str, Any], name: str, parameters: Mapping[str, Any]
    ) -> None:
        """Each density with each choice of parameters must make a method; it says why not."""
        try:
            methods.reachable(name, **parameters)
        except (methods.MethodError, TypeError) as error:
            key = next((k for k in parameters if k in str(error)), None)
            self.document.fault((*route, key) if key else route, str(error))
            return
        reported: set[Route] = set()  # of a range, one density is enough
        densities = _items(entry.get("density"), (*route, "density"))
        for item_route, density in densities[:_MAX_DENSITIES]:
            text = _density_fault(name, density, parameters) if item_route not in reported else ""
            if text:
                reported.add(item_route)
                self.document.fault(item_route, text)

    def _exclude(self, route: Route, rule: Mapping[str, Any]) -> None:
        parameters = [p for name in methods.names() for p in methods.parameter_names(name)]
        allowed = [*dict.fromkeys([*ExcludeRule.model_fields, *parameters])]
        for key in rule:
            if key not in allowed:
                self.document.fault((*route, key), f"unknown key{nearest(key, allowed)}")
        if not rule:
            self.document.fault(route, "an empty rule would exclude every point")


def searched_axes() -> tuple[str, ...]:
    """What a study searches beside densities, names and parameters of methods."""
    return (spaces.LAM,)


def _is_label(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and LABEL.fullmatch(value) is not None


def _known_methods(value: Any) -> list[str]:
    """Names of the methods of an entry that exist, aliases resolved, each once."""
    names = [name for _, name in _items(value, ()) if name in method_names()]
    return list(dict.fromkeys(ALIASES.get(name, (name,))[0] for name in names))


def _is_priced(entry: Mapping[str, Any], named: list[str]) -> bool:
    """Whether `lam` of an entry is the price of reads: none of its methods has it as parameter."""
    return LAM in entry and not any(LAM in methods.parameter_names(name) for name in named)


def _price_faults(entry: Mapping[str, Any], named: list[str]) -> Iterator[tuple[Route, str]]:
    """What a price of reads does not go with, each with its place in the entry."""
    for route, price in _items(entry[LAM], (LAM,)):
        try:
            Number(at_least=0, at_most=1e18).check(price)
        except PydanticCustomError as error:
            yield route, error.message()
    if {name for _, name in _items(entry.get("selector"), ())} != {"read-aware"}:
        yield (LAM,), "lam is a price of reads: it needs 'selector: read-aware'"
    if "density" in entry:
        yield ("density",), "with lam the density is what comes of it; give one of the two"
    for name in named:
        method = method_class(name)
        if name != "dense" and not method.groups:
            yield (LAM,), f"{name} has no masks that the price of reads could choose"
        elif method.trained == "each density":
            yield (LAM,), f"{name} is trained for each density, and lam asks for none"


def _axis_fault(key: str, value: Any) -> str:
    """Why a value is no axis of a method's parameter; empty if it is."""
    try:
        values = parameter_values(value)
    except PydanticCustomError as error:
        return error.message()
    mappings = () if key in MAPPINGS else (dict,)
    nested = [v for v in values if v is None or isinstance(v, (list, *mappings))]
    return f"{show(nested[0])} is given; text, a number or true is expected" if nested else ""


def _combinations(entry: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Every choice of the entry's parameters, up to a number that no user writes."""
    choices = islice(product(*(parameter_values(entry[name]) for name in names)), _MAX_COMBINATIONS)
    return (dict(zip(names, choice, strict=True)) for choice in choices)


def _has_one_density(name: str, entry: Mapping[str, Any], names: list[str]) -> bool:
    """Whether the method reaches one density alone, whatever is chosen of its parameters; then
    none need be written."""
    if name == "dense":
        return True
    try:
        reached = [methods.reachable(name, **choice) for choice in _combinations(entry, names)]
    except (methods.MethodError, TypeError):
        return False
    return bool(reached) and all(low == high for low, high in reached)


def _absent_file(given: Any) -> str:
    """That a file of shares, which would say the density, is not there; empty if it is."""
    named = [v for _, v in _items(given, ()) if isinstance(v, str) and v.endswith(".json")]
    absent = [name for name in named if not Path(name).expanduser().is_file()]
    return f"there is no file {absent[0]}" if absent else ""


def _density_fault(name: str, density: Any, parameters: Mapping[str, Any]) -> str:
    """Why the method cannot have this density; empty if it can, or if it is no density at all."""
    if not _is_number(density) or not 0 < density <= 1:
        return ""
    try:
        methods.create(name, density=density, **parameters)
    except (methods.MethodError, TypeError) as error:
        low, high = methods.reachable(name, **parameters)
        outside = not low - 1e-9 <= density <= high
        text = f"{density:g} is out of reach of {name}{_reach(name, parameters)}"
        return text if outside else str(error)
    return ""


def _reach(name: str, parameters: Mapping[str, Any]) -> str:
    low, high = methods.reachable(name, **parameters)
    if low == high:
        return f"; it has only {low:g}"
    start = "above 0 and up to" if low == 0 else f"from {low:.4g} to"
    return f"; it reaches densities {start} {high:g}"
