"""Faults of quantisations that only several values of an entry together show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from pydantic_core import PydanticCustomError

from methods.base import MethodError
from methods.static import quantiser
from sweep.messages import nearest
from sweep.spec.document import Document, Route
from sweep.spec.entries import QuantEntry
from sweep.spec.names import DEFAULT_BITS
from sweep.spec.values import spread

_MAX_COMBINATIONS = 200


def check_quants(document: Document, route: Route, value: Any) -> None:
    """Add the faults of a `quant` key's value; a value whose shape is wrong is passed over."""
    entries = value if isinstance(value, list) else [value]
    for i, entry in enumerate(entries):
        item_route = (*route, i) if isinstance(value, list) else route
        mapping = {"method": entry} if isinstance(entry, str) else entry
        if isinstance(mapping, dict):
            _check(document, item_route, mapping)


def _check(document: Document, route: Route, entry: Mapping[str, Any]) -> None:
    axes = {key: _values(value) for key, value in entry.items()}
    names = [name for name in axes.get("method", ()) if name in quantiser.names()]
    shared = set(QuantEntry.own_keys()).intersection(*map(quantiser.parameter_names, names))
    if names != list(axes.get("method", ())):
        shared = set()  # `none` has no parameters
    for key in entry:
        if key not in QuantEntry.model_fields and key not in shared:
            allowed = [*QuantEntry.model_fields, *sorted(shared)]
            document.fault((*route, key), f"unknown key{nearest(str(key), allowed)}")
            return
    reported: set[str] = set()  # of a range, one fault is enough
    for choice in islice(_choices(axes, names), _MAX_COMBINATIONS):
        fault = _fault(choice)
        key = next((key for key in choice if key in fault), "method")
        if fault and key not in reported:
            reported.add(key)
            document.fault(document.written((*route, key)), fault)


def _choices(axes: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    """Every choice of values of the entry, defaults for what it leaves out."""
    group_size = QuantEntry.model_fields["group_size"].default
    defaults = {"bits": DEFAULT_BITS, "group_size": group_size}
    every = {**defaults, **axes, "method": names}
    return (dict(zip(every, values, strict=True)) for values in product(*every.values()))


def _values(value: Any) -> tuple[Any, ...]:
    try:
        return spread(value)
    except PydanticCustomError:
        return ()


def _fault(choice: Mapping[str, Any]) -> str:
    """Why there is no such quantisation; empty if there is, or if a value is no number at all."""
    parameters = {k: v for k, v in choice.items() if k not in QuantEntry.model_fields}
    bits, group_size = choice["bits"], choice["group_size"]
    if bits == "file":
        return f"bits: file counts weights as they are; {choice['method']} makes others of them"
    numbers = all(
        isinstance(n, int | float) and not isinstance(n, bool) for n in (bits, group_size)
    )
    if not numbers:
        return ""
    try:
        quantiser.create(choice["method"], bits, group_size, parameters)
    except (MethodError, TypeError) as error:
        return str(error)
    return ""
