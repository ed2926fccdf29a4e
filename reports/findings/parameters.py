"""What the column `parameters` says of a row, as the words that tell it from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from reports.results import Row


@cache
def parameters_of(written: str) -> Mapping[str, Any]:
    """A method's own parameters; none where they cannot be read."""
    try:
        parameters: object = json.loads(written or "{}")
    except ValueError:
        return {}
    return cast("Row", parameters) if isinstance(parameters, dict) else {}


_ALWAYS_TOLD = object()
_USUAL: dict[str, object] = {
    "attention": "none",
    "shares": "uniform",
    "variant": "paper",
    "rotation": False,
    "experts": 0,
    "inside": "none",
    "prefetch": 0,
    "protected": 2,
    **dict.fromkeys(("lam", "ranks", "least_weight", "factor"), _ALWAYS_TOLD),
}
"""Parameters that tell rows of one method apart, and the values that they have by default; that of
rules which choose experts have none that goes without saying."""
_USUAL_OF = {"cett": {"shares": "cett"}}
"""The same of methods that have defaults of their own."""


@cache
def variant_of(method: str, written: str) -> str:
    """Parameters of `_USUAL` that are not as by default, as `attention 0.5 · shares greedy`."""
    parameters = parameters_of(written)
    usual = _USUAL | _USUAL_OF.get(method, {})
    given = {name: parameters.get(name) for name in usual}
    return " · ".join(
        name if value is True else f"{name} {_parameter_text(value)}"
        for name, value in given.items()
        if value not in (None, "", usual[name])
    )


def _parameter_text(value: object) -> str:
    """A number, a word, or shares for each group and layer, as short as they can be told apart."""
    if isinstance(value, int | float):
        return f"{value:g}"
    words = value if isinstance(value, str) else json.dumps(value)
    if len(words) <= _LONGEST_WORDS:
        return words
    return f"own {hashlib.sha256(words.encode()).hexdigest()[:6]}"


_LONGEST_WORDS = 40
