"""Announced masks from rows of a table: each configuration once, distances in order."""

from __future__ import annotations

import json

from reports.findings.announcements import announcements, distances
from reports.findings.points import points
from tests.reports.tasked import row, rows_of

FIGURES = {
    "gate-input": {
        "1": {"precision": 0.9, "recall": 0.9},
        "2": {"precision": 0.8, "recall": 0.8},
    },
    "intermediate": {"1": {"precision": 0.4, "recall": 0.5}},
}


def test_devices_share_a_row_and_methods_that_announce_nothing_have_none() -> None:
    written = json.dumps(FIGURES)
    first = row("1", "active-flow", 0.5, 11.0, 0.5, announced=written)
    second = row("2", "active-flow", 0.5, 11.0, 0.5, announced=written, dram_gb=4.0)
    rows = rows_of(first, second, row("3", "dip", 0.5, 11.0, 0.5))
    found = announcements(points(rows), rows)
    assert [entry.group for entry in found] == ["gate-input", "intermediate"]
    assert found[0].by_distance == {1: (0.9, 0.9), 2: (0.8, 0.8)}
    assert [entry.alike for entry in found] == [True, False]
    assert distances(found) == [1, 2]
    assert found[0].label == "active-flow · density 0.5"
