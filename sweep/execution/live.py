"""The files of a run while it runs: what is done so far, readable at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sweep.execution.progress import Progress, duration
from sweep.files.atomic import WriteError, write_json
from sweep.tasks.task import Record, Task

LIVE_SECONDS = 2.0
TABLE_SECONDS = 30.0
TABLE_SHARE = 20
"""The table is written so seldom that it takes at most one part in this many of the time."""


class Live:
    """Passes the driver's events on to the display; keeps the state and the table fresh."""

    def __init__(self, progress: Progress, state: Path, write_table: Callable[[], object]) -> None:
        self._progress, self._state, self._write_table = progress, state, write_table
        self._next_state = 0.0
        self._next_table = time.monotonic() + TABLE_SECONDS

    def started(self, task: Task) -> None:
        self._progress.started(task)

    def ended(self, record: Record) -> None:
        self._progress.ended(record)

    def dropped(self, task: Task) -> None:
        self._progress.dropped(task)

    def tick(self) -> None:
        self._progress.tick()
        with suppress(WriteError):  # a run goes on without them; the journal says when it cannot
            self._write()

    def _write(self) -> None:
        now = time.monotonic()
        if now >= self._next_state:
            tally = self._progress.tally
            line = f"{duration(tally.elapsed)}: {tally.line()}, {len(tally.running)} in flight"
            if tally.tokens:
                line += f", {tally.tokens / tally.elapsed:,.0f} tokens evaluated per second"
            self._next_state = now + LIVE_SECONDS
            write_json(self._state, {"line": line, "running": [*tally.running.values()]})
        if now >= self._next_table:
            self._next_table = now + TABLE_SECONDS
            self._write_table()
            took = time.monotonic() - now
            self._next_table = now + max(TABLE_SECONDS, TABLE_SHARE * took)
