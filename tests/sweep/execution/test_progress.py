"""What a run shows: counts, failures and a time that is left."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from sweep.execution import progress
from sweep.execution.progress import Progress, Tally, duration, past_seconds
from sweep.tasks.task import Record, Task, lost_record

TASK = Task("evaluate", "k", {}, "dip 0.5")


def record(kind: str = "evaluate", seconds: float = 2.0, status: str = "done") -> Record:
    return Record(f"{kind}{seconds}", kind, "a label", status, seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nothing_is_said_of_the_time_left_before_it_is_known() -> None:
    tally = Tally({"evaluate": 4})
    assert tally.remaining_seconds() is None
    assert tally.line() == "evaluate 0/4, time left: not known yet"


def test_the_time_left_is_work_over_speed() -> None:
    """Two of eight seconds' work in four seconds: twelve more."""
    tally = Tally({"evaluate": 4, "simulate": 4}, {"simulate": 0.0})
    tally.started = time.monotonic() - 4.0
    tally.end(record(seconds=2.0))
    assert tally.remaining_seconds() == pytest.approx(12.0, rel=0.01)
    assert tally.line() == "evaluate 1/4, simulate 0/4, more than 12 s left"


def test_kinds_not_met_yet_count_as_in_earlier_runs() -> None:
    tally = Tally({"evaluate": 1, "simulate": 3}, past_seconds([record("simulate", 4.0)] * 2))
    tally.started = time.monotonic() - 2.0
    tally.end(record(seconds=2.0))
    assert tally.remaining_seconds() == pytest.approx(12.0, rel=0.01)


def test_failed_tasks_are_counted_apart() -> None:
    tally = Tally({"evaluate": 2})
    tally.end(record())
    tally.end(record(status="failed"))
    assert "evaluate 2/2" in tally.line()
    assert "1 failed" in tally.line()


def test_past_seconds_are_means_of_what_ended_well() -> None:
    records = [record(seconds=1.0), record(seconds=3.0), record(seconds=90.0, status="failed")]
    assert past_seconds(records) == {"evaluate": 2.0}


def shown(terminal: bool) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    return Progress(console, Tally({"evaluate": 2})), text


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    display, text = shown(terminal=False)
    with display:
        display.started(TASK)
        display.tick()
        display.ended(record())
        display.ended(lost_record(TASK, "the worker [died]"))
    lines = text.getvalue().splitlines()
    assert lines[0].endswith("evaluate 0/2, time left: not known yet")
    assert "failed: dip 0.5: the worker [died] (log: k)" in lines
    assert "evaluate 2/2" in lines[-1]
    assert "\x1b" not in text.getvalue()


def test_plain_lines_are_seldom() -> None:
    display, text = shown(terminal=False)
    with display:
        for _ in range(50):
            display.tick()
        assert text.getvalue() == ""


def test_bars_on_a_terminal() -> None:
    display, text = shown(terminal=True)
    with display:
        display.started(TASK)
        display.ended(record())
    assert "1/2" in text.getvalue()
    assert "tokens evaluated/s" in text.getvalue()
