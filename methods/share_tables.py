"""The density that shares have as they are written, before a method is made with it; and names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from methods import shares
from methods.base import MethodError

GROUP_SENSITIVITY = "group-sensitivity"
"""Shares by what each group of each layer does alone (`methods.group_sensitivity`)."""

DIGITS = 4
"""Decimals of the density; a method takes shares whose mean is within as much of it."""


def density_of(given: Any, groups: Sequence[str]) -> float | None:
    """Mean density of a table, of a mapping or of a JSON file that holds one; None for a name, and
    for what `shares.canonical` will refuse."""
    try:
        rows = _rows(given, groups)
        if rows is None or any(len(row) != len(groups) for row in rows):
            return None
        mean = sum(shares.density_of(groups, row) for row in rows) / len(rows)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        return None
    return round(mean, DIGITS)


def _rows(given: Any, groups: Sequence[str]) -> shares.Table | None:
    if isinstance(given, str) and not given.endswith(".json"):
        return shares.parse(given) or None
    content = given if isinstance(given, Mapping) else _content(given)
    columns = [_column(content[group]) for group in groups]
    layers = max(map(len, columns))
    return tuple(zip(*([*c] * (layers // len(c)) for c in columns), strict=True))


def _content(path: Any) -> Mapping[str, Any]:
    content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    return content.get("shares", content)


def _column(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list) else [float(value)]


def mapping(groups: Sequence[str], table: shares.Table) -> dict[str, list[float]]:
    """A table as a file of shares holds it: numbers by layer for each group."""
    if any(len(row) != len(groups) for row in table):
        raise MethodError(f"shares: one share for each of {', '.join(groups)} is expected")
    columns = zip(*table, strict=True)
    return {group: [*column] for group, column in zip(groups, columns, strict=True)}
