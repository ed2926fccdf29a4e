"""When each task of a run was computed, where and for how long, by the journal of its store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 3000
"""Tasks that the page draws; of more, the longest."""


@dataclass(frozen=True, slots=True)
class Span:
    """One task: `start` in seconds since 1970, `worker` as the journal names it."""

    key: str
    kind: str
    label: str
    status: str
    worker: str
    start: float
    seconds: float


def read(folder: Path, plan: Mapping[str, Any]) -> list[Span]:
    """Tasks of the plan by start; those of a journal that is absent or damaged are left out.

    The journal is that of the store that the plan names, or of the run folder itself. The last
    line of a key counts.
    """
    keys = _wanted(plan)
    spans: dict[str, Span] = {}
    for line in _lines(folder, plan):
        span = _span(line)
        if span is not None and (keys is None or span.key in keys):
            spans[span.key] = span
    return sorted(spans.values(), key=lambda s: (s.start, s.key))


def _lines(folder: Path, plan: Mapping[str, Any]) -> list[bytes]:
    store = plan.get("store")
    for directory in ([Path(store)] if isinstance(store, str) and store else []) + [folder]:
        try:
            return (directory / "journal.jsonl").read_bytes().splitlines()
        except OSError:
            continue
    return []


def _wanted(plan: Mapping[str, Any]) -> set[str] | None:
    """Keys of the plan's tasks; None where the plan does not say."""
    kinds = plan.get("task_keys")
    if not isinstance(kinds, Mapping):
        return None
    return {str(key) for keys in kinds.values() if isinstance(keys, list) for key in keys}


def _span(line: bytes) -> Span | None:
    try:
        record = json.loads(line)["record"]
        seconds, ended = float(record["seconds"]), float(record["ended"])
        texts = (str(record[name]) for name in ("key", "kind", "label", "status", "worker"))
        return Span(*texts, start=ended - seconds, seconds=seconds)
    except (ValueError, KeyError, TypeError):
        return None


def document(spans: Sequence[Span]) -> dict[str, Any] | None:
    """What the page draws: columns of the longest `MOST` spans; None where there is none."""
    if not spans:
        return None
    drawn = sorted(sorted(spans, key=lambda s: -s.seconds)[:MOST], key=lambda s: s.start)
    first = min(s.start for s in spans)
    return {
        "count": len(spans),
        "seconds": sum(s.seconds for s in spans),
        "kind": [s.kind for s in drawn],
        "label": [s.label for s in drawn],
        "status": [s.status for s in drawn],
        "worker": [s.worker for s in drawn],
        "start": [round(s.start - first, 3) for s in drawn],
        "length": [round(s.seconds, 3) for s in drawn],
    }
