"""Names of methods. Classes are imported when they are asked for."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

from methods.base import Method, MethodError
from methods.names import BUILT_IN

_METHODS: dict[str, str | type[Method]] = dict(BUILT_IN)


def names() -> tuple[str, ...]:
    """All registered names, built-in first."""
    return tuple(_METHODS)


def register(cls: type[Method]) -> type[Method]:
    """Add a method of a user's own (a decorator); a name that is taken is an error."""
    known = _METHODS.get(cls.name)
    if known is not None and known is not cls:
        raise MethodError(f"a method named {cls.name!r} exists already")
    _METHODS[cls.name] = cls
    return cls


def forget(name: str) -> None:
    """Take a name out, as before a newer version of a user's file is loaded."""
    _METHODS.pop(name, None)


def method_class(name: str) -> type[Method]:
    """The class behind a name; MethodError with the nearest name otherwise."""
    try:
        entry = _METHODS[name]
    except (KeyError, TypeError):
        raise MethodError(f"unknown method {name!r}{_nearest(name)}") from None
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        entry = _METHODS[name] = getattr(import_module(module), attribute)
    return entry


def _nearest(name: object) -> str:
    near = difflib.get_close_matches(str(name), _METHODS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(_METHODS)})"


def parameter_names(name: str) -> tuple[str, ...]:
    """Parameters that the method takes besides its density."""
    return method_class(name).parameter_names()


def create(name: str, density: float = 1.0, **parameters: Any) -> Method:
    """The method `name` at an MLP density.

    Raises MethodError for a name, a parameter or a density that does not exist.
    """
    cls = method_class(name)
    unknown = sorted(set(parameters) - set(parameter_names(name)))
    if unknown:
        known = ", ".join(parameter_names(name)) or "none"
        raise MethodError(f"method {name} has no parameter {unknown[0]!r} (it has: {known})")
    return cls(density=density, **parameters)


def reachable(name: str, **parameters: Any) -> tuple[float, float]:
    """Lowest and highest MLP density; a lowest of 0 is exclusive."""
    return method_class(name).reach(parameters)


def summary(name: str) -> str:
    """The first line of the method's docstring."""
    return (method_class(name).__doc__ or "").strip().splitlines()[0]
