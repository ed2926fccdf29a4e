"""docs/reliability.md, from what the tests of this folder report."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

EMPTY = "No campaign has been recorded yet: `make chaos` fills this section.\n\n"
START, END = "<!-- figures: python -m tests.chaos -->", "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to runs, how often, what came of it, and seconds until the work went on."""

    what: str
    times: int
    outcome: str
    seconds: Sequence[float] = ()
    until: str = ""

    def row(self) -> str:
        return f"| {self.what} | {self.times} | {self.outcome} | {self._recovery()} |"

    def _recovery(self) -> str:
        if not self.seconds:
            return self.until or "–"
        middle, most = statistics.median(self.seconds), max(self.seconds)
        figures = (
            f"{middle:.1f} s" if len(self.seconds) == 1 else f"{middle:.1f} s (≤ {most:.1f} s)"
        )
        return f"{figures} {self.until}".rstrip()


def merged(faults: Iterable[Fault]) -> list[Fault]:
    """Faults of one name and outcome in one row."""
    found: dict[tuple[str, str, str], Fault] = {}
    for fault in faults:
        key = (fault.what, fault.outcome, fault.until)
        before = found.get(key)
        seconds = (*(before.seconds if before else ()), *fault.seconds)
        times = fault.times + (before.times if before else 0)
        found[key] = replace(fault, times=times, seconds=seconds)
    return list(found.values())


def table(faults: Iterable[Fault], seconds: float, days: Sequence[str]) -> str:
    """The table as Markdown, and where it was made."""
    import ray
    import torch

    cores = len(__import__("os").sched_getaffinity(0))
    versions = (
        f"Python {platform.python_version()}, Ray {ray.__version__}, torch {torch.__version__}"
    )
    when, minutes = " to ".join(dict.fromkeys((days[0], days[-1]))), seconds / 60
    return "\n".join(
        [
            "| fault | times | what happened | recovery: median (longest) |",
            "| --- | ---: | --- | --- |",
            *(fault.row() for fault in merged(faults)),
            "",
            f"{when}; {versions}; {cores} cores shared with other work; {minutes:.0f} minutes.",
        ]
    )


def write(path: Path, figures: str) -> None:
    """Put the figures between their marks; the text around them stays."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.replace(EMPTY, "").split(START)
    after = rest.split(END)[1]
    path.write_text(f"{before}{START}\n{figures}\n{END}{after}", encoding="utf-8")
