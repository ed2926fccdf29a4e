"""Inject all faults and write the figures of docs/reliability.md: python -m tests.chaos [ARGS...]

Arguments go to pytest: with `-k kills` only those run. What passed tests report is kept by test in
runs/chaos.json, and the page is written from all that is kept.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import page
from tests.chaos.page import Fault

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE, KEPT = ROOT / "docs" / "reliability.md", ROOT / "runs" / "chaos.json"


class Collector:
    """What tests reported, by test; a test that failed has nothing to report."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self.tests: dict[str, dict[str, Any]] = {}
        if kept.exists():
            self.tests = json.loads(kept.read_text(encoding="utf-8"))

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" or report.skipped:
            return
        faults = [value for name, value in report.user_properties if name == "fault"]
        self.tests.pop(report.nodeid, None)
        if report.passed and faults:
            day = time.strftime("%Y-%m-%d")
            self.tests[report.nodeid] = {"day": day, "took": report.duration, "faults": faults}
        self._kept.parent.mkdir(exist_ok=True)
        self._kept.write_text(json.dumps(self.tests, indent=1), encoding="utf-8")


def write_page(tests: dict[str, dict[str, Any]]) -> None:
    """Put what is kept into the page."""
    faults = [Fault(**fault) for name in sorted(tests) for fault in tests[name]["faults"]]
    days = sorted({test["day"] for test in tests.values()})
    took = sum(test["took"] for test in tests.values())
    page.write(PAGE, page.table(faults, took, days))


def main(arguments: list[str]) -> int:
    """Run the tests of this folder, or some; then the page is what passed."""
    collector = Collector(KEPT)
    options = ["-q", "--timeout", "1500", str(HERE), *arguments]
    code = int(pytest.main(options, plugins=[collector]))
    write_page(collector.tests)
    print(f"written to {PAGE}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
