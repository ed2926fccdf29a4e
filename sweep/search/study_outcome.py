"""What came of a study: winners, trials, and the line of a fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from methods import allocation
from sweep.allocation.files import Allocation
from sweep.studies.ask_tell import Trial


@dataclass(frozen=True, slots=True)
class Winner:
    """A trial that won, on the text that was tuned on and on the text that is reported."""

    setting: str
    trial: Trial
    tuned: dict[str, Any]
    reported: dict[str, Any]
    layers: tuple[float, ...] = ()
    """Densities by layer, where they were searched."""
    shares: Allocation | None = None
    """Its shares, where they are a table."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The line of appendix B.1 through the frontier's points."""

    line: allocation.Allocation
    points: list[tuple[float, float]]
    """(density, d_in) of the frontier."""
    r2: float


@dataclass(slots=True)
class Tuned:
    """What came of a study."""

    out: Path
    winners: list[Winner] = field(default_factory=list)
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    fit: Fit | None = None
    ran: Counter[str] = field(default_factory=Counter)
    importance: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Of each setting and objective: the share of each searched name (`Search.importance`)."""
    failed: int = 0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0
