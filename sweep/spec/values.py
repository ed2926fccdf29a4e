"""The kinds of value in a sweep file: numbers, names, axes. Each says in plain words what is wrong.

They are pydantic annotations: each checks a value of the YAML and writes its part of the JSON
schema, in which names appear as enumerations for an editor's completion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

from sweep.messages import nearest, not_a_number, show

MAX_AXIS = 10_000
_DIGITS = 12
_RANGE = ("from", "to", "step")
RANGE_SCHEMA = {
    "from": {"type": "number", "description": "The first value of a range."},
    "to": {"type": "number", "description": "The last value, if the steps meet it."},
    "step": {"type": "number", "description": "From one value to the next; above 0."},
}
"""The keys of a range, for editors."""
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def wrong(text: str) -> PydanticCustomError:
    """An error whose text is a finished sentence."""
    return PydanticCustomError("plain", "{text}", {"text": text})


def spread(value: Any, ranges: bool = True) -> tuple[Any, ...]:
    """The values of an axis: one value, a list of values, or {from, to, step}.

    A range has both ends where the steps meet the upper one. Raises PydanticCustomError.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise wrong("the list is empty; at least one value is expected")
        return tuple(value)
    if isinstance(value, dict) and ranges:
        return _range(value)
    if isinstance(value, dict):
        raise wrong(f"{show(value)} is given; a list is expected")
    if value is None:
        raise wrong("nothing is given; a value or a list of values is expected")
    return (value,)


def _range(written: Mapping[str, Any]) -> tuple[float, ...]:
    for key in written:
        if key not in _RANGE:
            raise wrong(f"unknown key {key!r} of a range{nearest(str(key), _RANGE)}")
    missing = [key for key in _RANGE if key not in written]
    if missing:
        raise wrong(f"a range {{from, to, step}} lacks {' and '.join(missing)}")
    low, high, step = (Number().check(written[key]) for key in _RANGE)
    if step <= 0:
        raise wrong(f"step {step:g} of a range; a number above 0 is expected")
    if high < low:
        raise wrong(f"a range from {low:g} to {high:g} is empty; 'to' must not be below 'from'")
    count = math.floor((high - low) / step + 1e-9) + 1
    if count > MAX_AXIS:
        raise wrong(f"a range of {count:,} values; at most {MAX_AXIS:,} are allowed")
    values = [round(low + i * step, _DIGITS) for i in range(count)]
    whole = all(isinstance(written[key], int) for key in _RANGE)
    return tuple(int(v) for v in values) if whole else tuple(values)


@dataclass(frozen=True, slots=True)
class Axis:
    """Annotation of a tuple: a single value and a range are spread into one, a list is taken."""

    ranges: bool = False
    or_none: bool = False
    """Whether an empty list is allowed."""
    mappings: bool = False
    """Whether a mapping that is no range is one value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        inner = handler(source)
        return core_schema.no_info_before_validator_function(self._spread, inner)

    def _spread(self, value: Any) -> tuple[Any, ...]:
        if self.mappings:
            values = parameter_values(value)
        else:
            values = () if self.or_none and value == [] else spread(value, self.ranges)
        if len(values) > MAX_AXIS:
            raise wrong(f"a list of {len(values):,} values; at most {MAX_AXIS:,} are allowed")
        return values

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        items = handler(schema)["items"]
        span = {
            "type": "object",
            "properties": RANGE_SCHEMA,
            "required": list(_RANGE),
            "additionalProperties": False,
        }
        several = {"type": "array", "items": items, "minItems": 0 if self.or_none else 1}
        return {"anyOf": [items, several, *([span] if self.ranges else [])]}


@dataclass(frozen=True, slots=True)
class Number:
    """Annotation of a finite number within bounds; `above` excludes its bound."""

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    whole: bool = False
    words: Mapping[str, float | None] | None = None
    """Words that stand for a number, as `all` or `auto`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> Any:
        """The number; raises PydanticCustomError in plain words."""
        if self.words and isinstance(value, str) and value in self.words:
            return self.words[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(not_a_number(value, self._expected()))
        if not -1e300 < value < 1e300 or not self._inside(value):
            raise wrong(f"{show(value)} is given; {self._expected()} is expected")
        if self.whole:
            return int(value)
        return round(float(value), _DIGITS)

    def _inside(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (not self.whole or value == int(value))
        )

    def _expected(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        bounds = [
            f"above {self.above:g}" if self.above is not None else "",
            f"of at least {self.at_least:g}" if self.at_least is not None else "",
            f"up to {self.at_most:,.10g}" if self.at_most is not None else "",
        ]
        words = "".join(f" or {word}" for word in self.words or ())
        return f"{noun} {' and '.join(b for b in bounds if b)}".rstrip() + words

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        bounds = {
            "exclusiveMinimum": self.above,
            "minimum": self.at_least,
            "maximum": self.at_most,
        }
        number = {"type": "integer" if self.whole else "number"}
        number |= {key: bound for key, bound in bounds.items() if bound is not None}
        return {"anyOf": [number, {"enum": list(self.words)}]} if self.words else number


@dataclass(frozen=True, slots=True)
class Name:
    """Annotation of text that is one of some names; what is allowed is asked for when needed."""

    kind: str
    names: Callable[[], Collection[str]]
    or_else: Callable[[str], str] | None = None
    """For text that is none of the names: why it is not allowed, empty if it is."""
    pattern: Callable[[], str] | None = None
    """Of text that is none of the names and allowed, for editors."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> str:
        """The name; raises PydanticCustomError with the nearest one."""
        if not isinstance(value, str):
            raise wrong(f"{show(value)} is given; the name of a {self.kind} is expected")
        if value in self.names():
            return value
        reason = self.or_else(value) if self.or_else else f"unknown {self.kind}"
        if reason:
            raise wrong(f"{reason} {show(value)}{nearest(value, self.names())}")
        return value

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        names = {"enum": list(self.names())}
        pattern = {"pattern": self.pattern()} if self.pattern else {}
        return {"anyOf": [names, {"type": "string"} | pattern]} if self.or_else else names


@dataclass(frozen=True, slots=True)
class Text:
    """Annotation of text that is not empty and, if `pattern` is given, matches it whole."""

    pattern: str = ""
    expected: str = "text"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise wrong(f"{show(value)} is given; {self.expected} is expected")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise wrong(f"{show(value)} is given; {self.expected} is expected")
        return value

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        pattern = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {"minLength": 1}
        return {"type": "string", **pattern}


def is_path(text: str) -> bool:
    """Whether text is written as a path: ./here, ../up, /from/the/root, ~/home."""
    return text.startswith((".", "/", "~"))


def model_reason(text: str) -> str:
    """Why text is no model: neither a file or folder that exists nor a hub id. Empty if it is."""
    try:
        exists = bool(text.strip()) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        exists = False
    if exists or (not is_path(text) and _HUB_ID.fullmatch(text)):
        return ""
    return "no such file or folder:" if is_path(text) else "unknown model"


def text_reason(text: str) -> str:
    """Why text names no text to evaluate: it is not the path of a file. Empty if it is."""
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return ""
        folder = path.is_dir()
    except (OSError, ValueError, RuntimeError):
        folder = False
    if folder:
        return "a folder, not a file of text:"
    return "no such file:" if is_path(text) or "/" in text else "unknown text"


Whole = Annotated[int, Number(at_least=1, at_most=1e9, whole=True)]
Natural = Annotated[int, Number(at_least=0, at_most=2**32 - 1, whole=True)]
Positive = Annotated[float, Number(above=0, at_most=1e6)]
Share = Annotated[float, Number(above=0, at_most=1)]
Shares = Annotated[tuple[Share, ...], Axis(ranges=True)]
Positives = Annotated[tuple[Positive, ...], Axis(ranges=True)]
Label = Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9_-]*", "a name of letters, digits, '-' and '_'")]
Words = Annotated[str, Text()]


def parameter_values(value: Any) -> tuple[Any, ...]:
    """The values of a method's parameter: an axis, where a mapping that is no range is one value.

    Raises PydanticCustomError.
    """
    is_range = isinstance(value, dict) and (not value or {"from", "to", "step"} & set(value))
    return (value,) if isinstance(value, dict) and not is_range else spread(value)


def combinations(*axes: tuple[Any, ...]) -> int:
    """Combinations of axes, of which an empty one has a value of its own."""
    return math.prod(max(1, len(axis)) for axis in axes)


def plain(number: float) -> float:
    """4.0 as 4, so that a point written in Python has the key of the same point in YAML."""
    return int(number) if number == int(number) else number
