"""Plain words for faults: what was given, what is allowed, the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import yaml

_NUMBER = re.compile(r"([-+]?)(\d[\d_]*\.?\d*|\.\d+)(?:[eE]([-+]?)(\d+))?")
_SHOWN = 60


def nearest(written: str, allowed: Iterable[str]) -> str:
    """`; did you mean dip? (allowed: dense, dip)`, without the question if nothing is near."""
    names = list(allowed)
    folded = {name.lower(): name for name in reversed(names)}
    near = get_close_matches(written.lower(), folded, n=1)
    question = f"; did you mean {folded[near[0]]}?" if near else ""
    return f"{question} (allowed: {', '.join(names) or 'none'})"


def show(value: Any) -> str:
    """A value as the user would recognise it, short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = f"'{value}'" if isinstance(value, str) else f"{value}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def not_a_number(value: Any, expected: str) -> str:
    """Why a value is no number; for text that looks like one, how to write it."""
    if not isinstance(value, str):
        return f"{show(value)} is given; {expected} is expected"
    match = _NUMBER.fullmatch(value.strip())
    if match is None:
        percent = _NUMBER.fullmatch(value.strip().removesuffix("%"))
        hint = f"; a share is written {float(percent[0]) / 100:g}" if percent else ""
        return f"{show(value)} is text; {expected} is expected{hint}"
    if _is_yaml_number(value.strip()):
        return f"{show(value)} is text because it is quoted; write {value.strip()}"
    return f"{value} is read as text by YAML; write {_as_yaml(*match.groups())}"


def _is_yaml_number(text: str) -> bool:
    tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))
    return tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _as_yaml(sign: str, digits: str, exponent_sign: str | None, exponent: str | None) -> str:
    digits = digits.replace("_", "")
    if exponent is None:
        return f"{sign}{digits.lstrip('0') or '0'}"
    point = digits if "." in digits else f"{digits}.0"
    return f"{sign}{point}e{exponent_sign or '+'}{exponent}"
