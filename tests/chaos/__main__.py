"""Inject all faults and write the figures of docs/reliability.md: python -m tests.chaos [PYTEST...]

More arguments go to pytest; with `-k` or the like only what ran is in the table, so then the page
is left alone and the table is printed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import page
from tests.chaos.page import Fault

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"


class Collector:
    """Keeps what passed tests report."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and report.passed:
            self.faults += [value for name, value in report.user_properties if name == "fault"]


def main(arguments: list[str]) -> int:
    """Run the tests of this folder; the page changes only where all of them passed."""
    collector, started = Collector(), time.monotonic()
    code = int(pytest.main(["-q", str(HERE), *arguments], plugins=[collector]))
    figures = page.table(collector.faults, time.monotonic() - started)
    if code or arguments:
        print(figures)
    else:
        page.write(PAGE, figures)
        print(f"written to {PAGE}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
