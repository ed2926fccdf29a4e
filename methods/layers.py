"""One density for each layer, with a mean that is the density of the whole.

Written as text, `0.45 0.55 0.5`, one number a layer, or as a JSON file with a list `layers`. MLPs
of one model are equally large, so their mean density is that of all MLP weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from methods.base import MethodError

DIGITS = 5
LEAST = 10.0**-DIGITS
_TOLERANCE = 1e-4


def canonical(given: Any, density: float) -> str:
    """The text of densities by layer; empty for none. Raises MethodError."""
    if not isinstance(given, str):
        raise MethodError(
            f"layers {given!r}: densities by layer are text as '0.4 0.6', or a JSON file"
        )
    if not given.strip():
        return ""
    found = _from_file(Path(given).expanduser()) if given.endswith(".json") else _numbers(given)
    if not all(0 < value <= 1 for value in found):
        raise MethodError(f"layers {given!r}: each density is above 0 and at most 1")
    mean = sum(found) / len(found)
    if abs(mean - density) > _TOLERANCE:
        raise MethodError(
            f"layers {given!r}: the mean of the densities is {mean:.5g}, but density is {density:g}"
        )
    return " ".join(f"{value:.{DIGITS}g}" for value in found)


def parse(text: str) -> tuple[float, ...]:
    """The densities that `canonical` wrote; empty for none."""
    return tuple(map(float, text.split()))


def spread(logits: Sequence[float], density: float) -> str:
    """Densities in proportion to exp(logit), none above 1, with this mean: a softmax in a budget.

    Equal logits give every layer the same. What a full layer cannot take goes to the others.
    """
    weights = [math.exp(logit - max(logits)) for logit in logits]
    budget, open_layers = density * len(weights), set(range(len(weights)))
    found = [1.0] * len(weights)
    while open_layers:
        scale = budget / sum(weights[i] for i in open_layers)
        full = {i for i in open_layers if scale * weights[i] >= 1}
        if not full:
            for i in open_layers:
                found[i] = max(LEAST, scale * weights[i])
            break
        budget -= len(full)
        open_layers -= full
    return " ".join(f"{value:.{DIGITS}g}" for value in found)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise MethodError(f"layers {text!r}: numbers with spaces between them expected") from None


def _from_file(path: Path) -> list[float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["layers"]
        return [float(value) for value in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MethodError(f"layers file {path} cannot be read: {error!r}") from None
