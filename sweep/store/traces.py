"""Traces in a store under a limit of disk: with them another policy evaluates nothing again."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep.files.atomic import WriteError
from sweep.store.artefacts import TRACE
from sweep.store.store import Store


def trace_files(folder: Path) -> list[Path]:
    """The traces that a store keeps, the oldest first."""
    dated = [(path.stat().st_mtime, path) for path in (folder / "artefacts").glob(f"*{TRACE}")]
    return [path for _, path in sorted(dated)]


def trace_bytes(folder: Path) -> int:
    """What they take on the disk."""
    return sum(path.stat().st_size for path in trace_files(folder))


def _size(handover: Any) -> int:
    """Bytes of a trace, or of arrays by name."""
    parts = handover.values() if isinstance(handover, dict) else (handover,)
    return sum(part.nbytes for part in parts)


class TraceRoom:
    """Keeps traces until they take `limit_bytes`; those of tasks not in `wanted` make room first.

    What has no room is not kept, and no failure: the evaluation would run again for it.
    """

    def __init__(self, store: Store, limit_bytes: float, wanted: Collection[str]) -> None:
        self._store, self._limit, self._wanted = store, limit_bytes, wanted
        self._used = trace_bytes(store.folder) if limit_bytes else 0
        self.full = not limit_bytes
        """Whether nothing more is kept."""

    def keep(self, key: str, trace: Any) -> bool:
        """Keep the trace of a task if there is room; returns whether it was."""
        if trace is None or self.full or not self._made(size := _size(trace)):
            return False
        try:
            self._store.save(key, trace)
        except WriteError:  # the journal will say so, where it cannot be written either
            self.full = True
            return False
        self._used += size
        return True

    def _made(self, size: float) -> bool:
        """Whether there is room for so many bytes, after older traces gave way."""
        if self._used + size > self._limit:
            for path in trace_files(self._store.folder):
                if path.stem not in self._wanted and self._used + size > self._limit:
                    self._used -= path.stat().st_size
                    with suppress(OSError):
                        path.unlink()
        self.full = self._used + size > self._limit
        return not self.full
