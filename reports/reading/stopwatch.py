"""What `sweep replay` left beside a run: Flash time of tokens, predicted and measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

NOT_MEASURABLE = "Not measurable here"
"""How a verdict begins that says so of the storage as a whole."""
MODELS = ("paper", "affine", "curve")


@dataclass(frozen=True, slots=True)
class Replayed:
    """A point: milliseconds of Flash for a token, by three models and by a stopwatch."""

    label: str
    reads_per_token: float
    bytes_per_token: float
    predicted: Mapping[str, float]
    measured: float
    low: float
    high: float
    reason: str
    """Why it says nothing of the storage; empty if it does."""
    products: Products | None = None
    """Of a replay that multiplied what it read."""
    point_key: str = ""


@dataclass(frozen=True, slots=True)
class Products:
    """Milliseconds of a token: products alone, and with the reads, predicted and measured."""

    computing: float
    predicted: float
    measured: float
    low: float
    high: float


def read(folder: Path) -> tuple[Sequence[Replayed], str]:
    """Its points and its verdict; nothing where the folder has none, or none that can be read."""
    try:
        text = (folder / "replay.json").read_text(encoding="utf-8")
        document = cast("Mapping[str, Any]", json.loads(text))
        lines = [_line(line) for line in document["lines"]]
        return [line for line in lines if line.measured > 0], str(document["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return (), ""


def _line(written: Mapping[str, Any]) -> Replayed:
    return Replayed(
        label=str(written["label"]),
        reads_per_token=_number(written["reads_per_token"]),
        bytes_per_token=_number(written["bytes_per_token"]),
        predicted={name: 1e3 * _number(written[f"{name}_s"]) for name in MODELS},
        measured=1e3 * _number(written["measured_s"]),
        low=1e3 * _number(written["measured_low_s"]),
        high=1e3 * _number(written["measured_high_s"]),
        reason="" if written["valid"] else str(written["reason"] or "not valid"),
        products=_products(written.get("products")),
        point_key=str(written.get("point_key", "")),
    )


def _products(written: Mapping[str, Any] | None) -> Products | None:
    """None where nothing was multiplied, or where that is not valid."""
    if written is None or not written["valid"]:
        return None
    names = ("computing_s", "predicted_s", "measured_s", "measured_low_s", "measured_high_s")
    return Products(*(1e3 * _number(written[name]) for name in names))


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no figure")
    return number
