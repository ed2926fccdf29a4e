"""How large reads are, by hand, and the caveat about small ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from reports.findings.decisions import decide_points
from reports.pages.summary import caveats, read_size_caveats, reads_of
from reports.read_sizes import read_sizes
from reports.reading.run import load
from tests.reports import synthetic

READS = {
    "input": {
        "units": 10,
        "layers": 2,
        "unit_bytes": 1000.0,
        "slots": 0,
        "phases": {"used": [4, 6], "missed": [1, 3], "count": [6, 2]},
    },
    "intermediate": {
        "units": 20,
        "layers": 2,
        "unit_bytes": 500.0,
        "slots": 3,
        "phases": {"used": [5], "missed": [2], "count": [8]},
    },
}


def test_every_missed_unit_is_a_read() -> None:
    """8 phases of 2 layers are 4 tokens: 12 missed inputs, 16 missed intermediates."""
    reads, size = read_sizes(json.dumps(READS))
    assert reads == (12 + 16) / 4
    assert size == pytest.approx((12 * 1000 + 16 * 500) / 28)


@pytest.mark.parametrize("written", [None, "", "{}", "not json", "[]", '{"input": {}}', "3"])
def test_what_has_no_counts_has_no_size(written: str | None) -> None:
    assert all(map(math.isnan, read_sizes(written)))


def test_where_all_hits_nothing_is_read() -> None:
    counts = {"input": {**READS["input"], "phases": {"used": [4], "missed": [0], "count": [8]}}}
    reads, size = read_sizes(json.dumps(counts))
    assert reads == 0
    assert math.isnan(size)


def run_of(folder: Path, unit_bytes: float) -> Path:
    counts = {name: {**group, "unit_bytes": unit_bytes} for name, group in READS.items()}
    found = synthetic.table(flaws=False).to_pylist()
    for row in found:
        row["reads"] = "{}" if row["method"] == "dense" else json.dumps(counts)
    return synthetic.run_folder(folder, synthetic.to_table(found))


def test_small_reads_are_a_caveat_with_size_and_number(tmp_path: Path) -> None:
    run = load(run_of(tmp_path / "small", 2048.0))
    (text,) = read_size_caveats(run)
    assert text in caveats(run)
    assert "read 2.00 KiB of Flash at a time" in text
    assert "7 reads a token" in text
    assert "64 KiB and more" in text
    best = next(d.best for d in run.decisions if d.best and not d.best.dense)
    assert reads_of(best) == "7 a token of 2.00 KiB, below 64 KiB"


def test_large_reads_are_none(tmp_path: Path) -> None:
    run = load(run_of(tmp_path / "large", 65536.0))
    assert read_size_caveats(run) == []
    best = next(d.best for d in run.decisions if d.best and not d.best.dense)
    assert reads_of(best) == "7 a token of 64.0 KiB"


def test_dense_alone_has_no_reads_of_units(tmp_path: Path) -> None:
    run = load(run_of(tmp_path / "dense", 2048.0))
    dense = [p for p in run.points if p.dense]
    assert [reads_of(p) for p in dense] == [""] * len(dense)
    assert decide_points(dense, run.budgets)[0].is_dense
