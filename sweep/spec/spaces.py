"""What a study searches: for each parameter a span of numbers or a list of names.

gamma: [0.05, 1.0]                          any number of the span
gamma: {from: 0.05, to: 1.0, log: true}     the same, with equal weight to each ratio
density: {from: 0.5, to: 0.9, step: 0.05}   the numbers of a range, both ends included
allocation: [paper, uniform]                one of the names
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError, core_schema

from simulator.cache_shares import WORDS
from sweep.messages import nearest, show
from sweep.spec.values import RANGE_SCHEMA, Number, spread, wrong

DIGITS = 4
"""Decimals of a searched number: trials that differ by less are one point."""

SHARES = ("density", "gamma", "input", "intermediate")
"""What lies above 0 and goes up to 1. `input` and `intermediate` are the densities of dip's two
groups (appendix B.1); together they make the density and the allocation."""
NAMES = ("method", "policy", "selector", "quant")
CHUNK = "chunk"
"""Units that are chosen as one: whole numbers, as {from: 1, to: 4, step: 1}."""
CACHE_SHARES = "cache_shares"
"""Of the caches' bytes, what inputs get: numbers from 0 to 1, or names of ways to share."""
BITS = "bits"
"""Of a weight: the numbers of a range, over those of `quant`."""
QUANT = ("quant", BITS)
"""What changes the weights."""
LAM = "lam"
"""What a second of reads costs in scores, of read-aware selection."""
LAYERS = "layers"
"""A span of logits, the same for each layer: `density` is shared out by their softmax."""
MOST_LOGIT = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high`; `log` gives each ratio, not each difference, equal weight."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some values: names, or the numbers of a range."""

    values: tuple[Any, ...]


Space = Span | Choices


class Searched:
    """Annotation: a Span or Choices. What is neither, `sweep.spec.checks` names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)

    def _read(self, value: Any) -> Any:
        try:
            return read(value)
        except PydanticCustomError:
            return value

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        number = {"type": "number"}
        span = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
        names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        log = {"type": "boolean", "description": "Whether each ratio has equal weight."}
        keys = {**RANGE_SCHEMA, "log": log}
        ranges = {"type": "object", "properties": keys, "required": ["from", "to"]}
        return {"anyOf": [span, names, ranges | {"additionalProperties": False}]}


def read(value: Any) -> Space:
    """The Span or Choices that a value of the file means. Raises PydanticCustomError."""
    if isinstance(value, Span | Choices):
        return value
    if isinstance(value, dict):
        return _from_mapping(value)
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return Choices(tuple(value))
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)):
        return _span(*value)
    raise wrong(f"{show(value)} is given; [low, high] or a list of names is expected")


def _from_mapping(value: dict[str, Any]) -> Space:
    if "step" in value:
        if "log" in value:
            raise wrong("a range has either 'step' or 'log'")
        return Choices(spread(value))
    for key in value:
        if key not in ("from", "to", "log"):
            raise wrong(f"unknown key {key!r} of a range{nearest(str(key), ('from', 'to', 'log'))}")
    missing = [key for key in ("from", "to") if key not in value]
    if missing:
        raise wrong(f"a range lacks {' and '.join(missing)}")
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise wrong(f"log is {show(log)}; true or false is expected")
    return _span(Number().check(value["from"]), Number().check(value["to"]), log)


def _span(low: float, high: float, log: bool = False) -> Span:
    if not low < high:
        raise wrong(f"low {show(low)} is not below high {show(high)}")
    if log and low <= 0:
        raise wrong(f"low {show(low)} has no logarithm")
    return Span(float(low), float(high), log)


def fault(key: str, value: Any, parameters: tuple[str, ...]) -> str:
    """Why `key` cannot be searched so; empty if it can. `parameters` are the methods' own, and
    what else an entry has."""
    searchable = (*SHARES, *NAMES, CHUNK, CACHE_SHARES, BITS, *dict.fromkeys(parameters))
    if key not in searchable:
        return f"unknown parameter to search{nearest(key, searchable)}"
    try:
        space = read(value)
    except PydanticCustomError as error:
        return error.message()
    if key in SHARES:
        return _share_fault(key, space)
    if key == LAYERS:
        return _logits_fault(space)
    if key == CACHE_SHARES:
        return _cache_fault(space)
    if key == CHUNK and not _whole(space):
        return "whole numbers are expected for chunk, as {from: 1, to: 4, step: 1}"
    if key == BITS and not (isinstance(space, Choices) and all(map(_is_number, space.values))):
        return "numbers are expected for bits, as {from: 3, to: 4, step: 1}"
    if key in NAMES and not all(isinstance(v, str) for v in getattr(space, "values", (0,))):
        return f"a list of names is expected for {key}"
    return ""


def _whole(space: Space) -> bool:
    values = space.values if isinstance(space, Choices) else (0.5,)
    return all(_is_number(value) and value == int(value) >= 1 for value in values)


def _share_fault(key: str, space: Space) -> str:
    if isinstance(space, Choices) and any(isinstance(v, str) for v in space.values):
        return f"[low, high] is expected for {key}"
    low, high = bounds(space)
    if not (low > 0 and high <= 1):
        return f"[{low:g}, {high:g}] is not within 0 (excluded) to 1"
    return ""


def _cache_fault(space: Space) -> str:
    names = [v for v in getattr(space, "values", ()) if isinstance(v, str)]
    unknown = [name for name in names if name not in WORDS]
    if unknown:
        return f"unknown way to share a cache {show(unknown[0])}{nearest(unknown[0], WORDS)}"
    if not names and not (bounds(space)[0] >= 0 and bounds(space)[1] <= 1):
        return "the share of a cache is a number from 0 to 1"
    return ""


def _logits_fault(space: Space) -> str:
    """All layers alike, logit 0, must be among what is searched."""
    if isinstance(space, Choices) and any(isinstance(v, str) for v in space.values):
        return "[low, high] of logits is expected for layers, as [-1, 1]"
    low, high = bounds(space)
    if not -MOST_LOGIT <= low <= 0 <= high <= MOST_LOGIT:
        return f"[{low:g}, {high:g}] does not hold 0, or goes beyond {MOST_LOGIT:g}"
    return ""


def layer_names(count: int) -> list[str]:
    """Names of the parameters that `layers` stands for, one a layer."""
    digits = len(str(count - 1))
    return [f"layer_{i:0{digits}d}" for i in range(count)]


def is_layer(name: str) -> bool:
    """Whether the parameter is the logit of a layer."""
    return name.startswith("layer_")


def bounds(space: Space) -> tuple[float, float]:
    """Lowest and highest number of a space of numbers."""
    if isinstance(space, Span):
        return space.low, space.high
    return min(space.values), max(space.values)


def combinations(space: Mapping[str, Choices]) -> list[dict[str, Any]]:
    """Every combination of choices, the last name changing first: the trials of `grid`."""
    rows: list[dict[str, Any]] = [{}]
    for key, choices in space.items():
        rows = [{**chosen, key: value} for chosen in rows for value in choices.values]
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
