"""Task functions called by hand, without a planner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACES = ("model", "text_name", "checkpoint", "asked", "batch")


def apart(settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The payload and the `where` of a task, from one mapping."""
    payload = {key: value for key, value in settings.items() if key not in PLACES}
    return payload, {key: settings[key] for key in PLACES if key in settings}
