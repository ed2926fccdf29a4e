"""How DIP splits its density over inputs and intermediate units (paper, appendix B.1, Figure 12).

The published curve, one's own straight line in logits fitted to measured points, or no curve:

    d_in = sigmoid(slope * logit(D) + intercept),    d_mid = 3 D - 2 d_in
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.base import MethodError

NAMES = ("paper", "uniform")
_LINE = ("slope", "intercept")
_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Allocation:
    """A straight line from logit(D) to logit(d_in)."""

    slope: float
    intercept: float

    def input_density(self, density: float) -> float:
        """d_in at an MLP density; at most 1.5 D, where nothing is left for the intermediate."""
        if density >= 1 or self == UNIFORM:
            return density
        logit = self.slope * _logit(density) + self.intercept
        d_in = 1 / (1 + math.exp(-min(700.0, max(-700.0, logit))))
        return min(max(d_in, (3 * density - 1) / 2), 1.5 * density)

    def __str__(self) -> str:
        """The text that `parse` reads back: how parameters of a method carry a fit."""
        return f"slope {self.slope!r} intercept {self.intercept!r}"


PAPER = Allocation(0.98499307, 0.29976478)
UNIFORM = Allocation(1.0, 0.0)


def parse(given: Any) -> Allocation:
    """The allocation that is meant: a name, {slope, intercept}, or a JSON file that holds these.

    Raises MethodError.
    """
    if isinstance(given, Mapping):
        return _from_mapping(given, "allocation")
    if not isinstance(given, str):
        raise _unknown(given)
    if given in NAMES:
        return PAPER if given == "paper" else UNIFORM
    if given.endswith(".json"):
        return _from_file(Path(given).expanduser())
    words = given.split()
    if tuple(words[::2]) != _LINE:
        raise _unknown(given)
    return _from_mapping(dict(zip(words[::2], map(_number, words[1::2]), strict=True)), given)


def canonical(given: Any) -> str:
    """`paper`, `uniform` or the text of a fit: the same for the same split."""
    return given if isinstance(given, str) and given in NAMES else str(parse(given))


def fit(points: Iterable[tuple[float, float]]) -> Allocation:
    """The line through (MLP density, d_in) points by least squares in logits.

    The points are the Pareto-optimal ones of a search over density and allocation, all models and
    layers together. Points at 0 or 1, which have no logit, are left out; two densities are needed.
    """
    usable = [
        (_logit(density), _logit(d_in))
        for density, d_in in points
        if _EDGE < density < 1 - _EDGE and _EDGE < d_in < 1 - _EDGE
    ]
    count = len(usable)
    mean_x = sum(x for x, _ in usable) / max(1, count)
    mean_y = sum(y for _, y in usable) / max(1, count)
    spread = sum((x - mean_x) ** 2 for x, _ in usable)
    if spread < 1e-12:
        raise ValueError(f"a line needs points of two densities between 0 and 1; {count} are given")
    slope = sum((x - mean_x) * (y - mean_y) for x, y in usable) / spread
    return Allocation(slope, mean_y - slope * mean_x)


def pareto(points: Iterable[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """(density, d_in) of the (density, d_in, perplexity) points that no other beats on both ends.

    A point stays if every other one has more density or more perplexity; of equals, the first.
    """
    best = math.inf
    kept: list[tuple[float, float]] = []
    for density, d_in, perplexity in sorted(points, key=lambda point: (point[0], point[2])):
        if perplexity < best:
            best = perplexity
            kept.append((density, d_in))
    return kept


def _from_mapping(given: Mapping[str, Any], what: str) -> Allocation:
    if set(given) != set(_LINE):
        names = ", ".join(map(str, given))
        raise MethodError(f"{what}: a fit has slope and intercept, not {names}")
    values = [given[name] for name in _LINE]
    if not all(_is_number(value) for value in values) or values[0] <= 0:
        raise MethodError(f"{what}: slope must be above 0 and intercept a number, not {values}")
    return Allocation(*map(float, values))


def _from_file(path: Path) -> Allocation:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MethodError(f"allocation file {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise MethodError(f"allocation file {path} holds no mapping")
    return _from_mapping({k: v for k, v in content.items() if k in _LINE}, str(path))


def _unknown(given: object) -> MethodError:
    known = ", ".join(NAMES)
    return MethodError(
        f"unknown allocation {given!r} of dip (known: {known}; or {{slope, intercept}}, or a JSON "
        "file with these)"
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
