"""A file of shares by layer and group, which says for which model they were found.

`{method: dip-shares, shares: FILE}` of a sweep takes it, as any method with these groups does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.files.atomic import write_json
from sweep.inputs import model_ref


@dataclass(frozen=True, slots=True)
class Allocation:
    """Shares of a model."""

    shares: Mapping[str, list[float]]
    """Of each group, by layer."""
    density: float
    """MLP density that they make."""
    method: str
    model: str
    """As the sweep that they were found with names it."""
    weights: str
    """Fingerprint of the model's weights, configuration and tokenizer."""
    key: str
    """Of what they were found from."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """Target, cache and text, and what was measured."""


def write(path: Path, allocation: Allocation) -> None:
    """As JSON, whole or not at all."""
    write_json(path, asdict(allocation))


def check(parameters: Mapping[str, Iterable[Any]], model: str, place: str) -> None:
    """Raise InputError if one of the shares is a file that was written for another model.

    A file without a model's fingerprint, as one that was written by hand, is anybody's.
    """
    for given in parameters.get("shares", ()):
        if isinstance(given, str) and given.endswith(".json"):
            _check_file(given, model, place)


def _check_file(given: str, model: str, place: str) -> None:
    try:
        content = json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
        weights, name = content["weights"], content["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # what cannot be read, the method says
    ours = model_ref.fingerprint(model)
    if model == name if ours.startswith("unfetched:") else ours == weights:
        return
    raise InputError(
        f"{place}: allocation {given} was found for the model {name}, not for {model}; "
        "`sweep allocate` finds one for it"
    )
