"""How a sweep is run: what the command line says beside the sweep itself."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """How a sweep is run; nothing here can change a result."""

    out: Path
    store: Path | None = None
    address: str | None = None
    workers: int | None = None
    """CPUs of the local Ray; 0 runs in this process; None takes all cores."""
    retry_failed: bool = False
    fail_fast: bool = False
    report: bool = True
    points: tuple[str, ...] = ()
    """Only the points with these keys, or first digits of keys; all if empty."""
    max_hours: float | None = None
    """After this time nothing that runs a model is begun; the run ends as if interrupted."""
    until_certain: bool = False
    """Whether choices get more windows until they are certain (SEMANTICS 13)."""
    only: tuple[str, ...] = ()
    """Patterns of `sweep.plan.task_patterns`; what they do not name stays missing."""

    @property
    def store_folder(self) -> Path:
        return self.store or self.out

    @property
    def deadline(self) -> float:
        """On the clock of `time.monotonic`."""
        return math.inf if self.max_hours is None else time.monotonic() + 3600 * self.max_hours
