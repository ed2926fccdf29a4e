"""What a running sweep shows: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.tasks.task import Record, Task

PLAIN_SECONDS = 10.0
"""How often a line is written where there is no terminal."""


@dataclass(slots=True)
class Tally:
    """Tasks by kind and state, with measured durations: what display and ETA are made of."""

    totals: Mapping[str, int]
    past_seconds: Mapping[str, float] = field(default_factory=dict)
    """Mean duration of a task of each kind in earlier runs, for kinds not yet measured here."""
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    running: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def start(self, task: Task) -> None:
        self.running[task.key] = task.label

    def end(self, record: Record) -> None:
        self.running.pop(record.key, None)
        self.seconds[record.kind] += record.seconds  # type: ignore[assignment]
        (self.done if record.status == "done" else self.failed)[record.kind] += 1
        self.tokens += record.result.get("tokens", 0)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def remaining_seconds(self) -> float | None:
        """Work that is left over the rate at which work was done; None before the first task."""
        work = sum(self.seconds.values())
        if work <= 0:
            return None
        left = sum(self._left(kind) * self._mean(kind) for kind in self.totals)
        return left * self.elapsed / work

    def time_left(self) -> str:
        """`remaining_seconds` in words: a lower bound while a kind of task was never timed."""
        seconds = self.remaining_seconds()
        if seconds is None:
            return "time left: not known yet"
        untimed = any(self._left(kind) and not self._mean(kind) for kind in self.totals)
        return f"{'more than' if untimed else 'about'} {duration(seconds)} left"

    def _left(self, kind: str) -> int:
        return self.totals[kind] - self.done[kind] - self.failed[kind]

    def _mean(self, kind: str) -> float:
        ended = self.done[kind] + self.failed[kind]
        return self.seconds[kind] / ended if ended else self.past_seconds.get(kind, 0.0)

    def line(self) -> str:
        parts = [f"{k} {self.done[k] + self.failed[k]}/{n}" for k, n in self.totals.items() if n]
        failed = sum(self.failed.values())
        if failed:
            parts.append(f"{failed} failed")
        return ", ".join(parts) + f", {self.time_left()}"


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Shows a Tally while used as a context manager; a Watcher of the driver."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self.console = console
        self.tally = tally
        self._live: Live | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self._draw,
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, value, trace)
        else:
            self._print_line()

    def started(self, task: Task) -> None:
        self.tally.start(task)

    def ended(self, record: Record) -> None:
        self.tally.end(record)
        if record.status == "failed":
            self.console.print(Text(failure_line(record), style="red"))

    def dropped(self, task: Task) -> None:
        self.tally.failed[task.kind] += 1

    def tick(self) -> None:
        if self._live is None and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        self.console.print(Text(f"[{duration(self.tally.elapsed)}] {self.tally.line()}"))

    def _draw(self) -> Table:
        tally, grid = self.tally, Table.grid(padding=(0, 1))
        for kind, total in tally.totals.items():
            if total:
                ended = tally.done[kind] + tally.failed[kind]
                count = Text(f"{ended}/{total}")
                if tally.failed[kind]:
                    count.append(f"  {tally.failed[kind]} failed", style="red")
                grid.add_row(Text(kind), ProgressBar(total, ended, width=30), count)
        speed = tally.tokens / max(tally.elapsed, 1e-9)
        status = f"{duration(tally.elapsed)}, {tally.time_left()}"
        grid.add_row("", Text(status), Text(f"{speed:,.0f} tokens evaluated/s", style="dim"))
        for label in list(tally.running.values())[:4]:
            grid.add_row("", Text(label, style="dim", overflow="ellipsis", no_wrap=True), "")
        return grid


def failure_line(record: Record) -> str:
    """What failed and why, with the key by which `sweep logs` tells more."""
    return f"failed: {record.label}: {record.error} (log: {record.key})"


def past_seconds(records: Iterable[Record]) -> dict[str, float]:
    """Mean duration of the tasks of each kind that ended well before."""
    count: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for record in records:
        if record.status == "done":
            count[record.kind] += 1
            total[record.kind] += record.seconds  # type: ignore[assignment]
    return {kind: total[kind] / count[kind] for kind in count}
