"""The one error of this package: wrong input, said in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SimulatorError(ValueError):
    """Input that cannot be simulated; `str()` names what was given and what is allowed."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> SimulatorError:
    """An error that names the allowed values and, if there is one, the nearest to `name`."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return SimulatorError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")


def check_fields(kind: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise SimulatorError for the first field of a mapping that does not exist."""
    allowed = list(allowed)
    for field in names:
        if field not in allowed:
            raise unknown(f"field of a {kind}", field, allowed)


def check_number(kind: str, name: str, value: object, low: float, *, strict: bool) -> None:
    """Raise SimulatorError unless `value` is a finite number above (or equal to) `low`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    finite = number and -float("inf") < value < float("inf")  # type: ignore[operator]
    if finite and (value > low or (value == low and not strict)):  # type: ignore[operator]
        return
    sign = ">" if strict else ">="
    raise SimulatorError(f"{kind}: {name} is {value!r}; it must be a number {sign} {low:g}")
