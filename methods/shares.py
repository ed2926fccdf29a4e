"""A share for each group and each layer of a method, whose weighted mean is the density asked for.

Written as a mapping, {gate-input: 0.5, up-input: [0.6, 0.4], intermediate: 0.5}: one number for
all layers, or one a layer; or as a JSON file that holds such a mapping, or one under `shares`. Or
named: `uniform` gives all the same, the calibrated ones are found on the calibration text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from methods.base import MethodError
from methods.density import MLP_SHARE, mlp_density

Table: TypeAlias = "tuple[tuple[float, ...], ...]"
"""By layer, the shares of the groups in the order of the method's; one row is for all layers."""

UNIFORM = "uniform"
TPE = "tpe"

CALIBRATED = ("greedy", "sensitivity", "sensitivity+greedy", TPE)
"""Layers by their measured loss (`sensitivity`) or by trials (`tpe`), groups of a layer by its
error (`greedy`, and `tpe` too)."""

NAMES = (UNIFORM, *CALIBRATED)

DIGITS = 5
_TOLERANCE = 1e-4


def uniform(groups: Sequence[str], density: float) -> tuple[float, ...]:
    """The same share of each group, so that the MLP has this density; what is in none is dense."""
    pruned = sum(MLP_SHARE[group] for group in groups)
    share = min(1.0, max(0.0, 1 - (1 - density) / pruned))
    return (share,) * len(groups)


def density_of(groups: Sequence[str], row: Sequence[float]) -> float:
    """MLP density of a layer whose groups have these shares."""
    return mlp_density(dict(zip(groups, row, strict=True)))


def canonical(
    given: Any, groups: Sequence[str], density: float, names: Sequence[str] = NAMES
) -> str:
    """One of `names`, or the text of a table, which `parse` reads. Raises MethodError."""
    if isinstance(given, str) and given in names:
        return given
    if isinstance(given, str) and not given.endswith(".json"):
        table = _from_text(given, names)
    else:
        content = given if isinstance(given, Mapping) else _from_file(given)
        table = _from_mapping(content, groups)
    _check(table, groups, density)
    rows = (" ".join(f"{share:.{DIGITS}g}" for share in row) for row in table)
    return "; ".join(rows)


def parse(text: str) -> Table:
    """The table that `canonical` wrote; empty for a name."""
    return _from_text(text) if text[0].isdigit() else ()


def _check(table: Table, groups: Sequence[str], density: float) -> None:
    if any(len(row) != len(groups) for row in table):
        raise MethodError(f"shares: one share for each of {', '.join(groups)} is expected")
    if not all(0 <= share <= 1 for row in table for share in row):
        raise MethodError("shares: each is between 0 and 1")
    mean = sum(density_of(groups, row) for row in table) / len(table)
    if abs(mean - density) > _TOLERANCE:
        raise MethodError(
            f"shares: together they make the density {mean:.5g}, but density is {density:g}"
        )


def _from_text(text: str, names: Sequence[str] = NAMES) -> Table:
    try:
        return tuple(tuple(map(float, row.split())) for row in text.split(";"))
    except ValueError:
        known = ", ".join(names)
        raise MethodError(
            f"unknown shares {text!r} (known: {known}; or a share for each group, as a mapping or "
            "in a JSON file)"
        ) from None


def _from_file(given: Any) -> Mapping[str, Any]:
    try:
        content = json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise MethodError(f"shares file {given} cannot be read: {error}") from None
    found = content.get("shares", content) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise MethodError(f"shares file {given} holds no mapping")
    return found


def _from_mapping(given: Mapping[str, Any], groups: Sequence[str]) -> Table:
    if set(given) != set(groups):
        raise MethodError(
            f"shares: groups {', '.join(groups)} are expected, not {', '.join(given)}"
        )
    columns = [
        given[group] if isinstance(given[group], list) else [given[group]] for group in groups
    ]
    layers = max(len(column) for column in columns)
    if any(len(column) not in (1, layers) for column in columns):
        raise MethodError(f"shares: each group has one number, or {layers}, one a layer")
    try:
        whole = [[float(v) for v in column] * (layers // len(column)) for column in columns]
    except (TypeError, ValueError):
        raise MethodError(f"shares: numbers are expected, not {dict(given)}") from None
    return tuple(zip(*whole, strict=True))
