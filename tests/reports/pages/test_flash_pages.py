"""What the paper's Flash would have chosen, on both pages: found, told in words, escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from reports.findings.budgets import parse_all
from reports.findings.flash import flash_choices
from reports.pages import flash, html, markdown
from reports.reading.run import Run, assemble, load
from reports.results import Row
from tests.reports import synthetic


def _rows(device: str = "phone", slow_density: float = 0.6) -> list[Row]:
    """Rows of one setting with reads: what is fastest by the paper is slow by its reads."""
    shape = synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,), policies=("lfu",))
    made = synthetic.table(shape, flaws=False).to_pylist()
    for row in made:
        row["device"] = device
        row["tokens_per_s_paper"] = row["tokens_per_s"]
        if row["method"] == "dip" and row["density"] <= slow_density:
            row["tokens_per_s"] /= 10
        row |= {"reads_per_token": 1000.0, "mean_read_bytes": 2048.0, "wasted": 0.25}
    return synthetic.to_table(made).to_pylist()


def _run(rows: Sequence[Row]) -> Run:
    return assemble("a", reports_rows(rows), parse_all(["0.2", "20%"]), {}, {})


def reports_rows(rows: Sequence[Row]) -> list[Row]:
    from reports.results import rows as read

    return read(synthetic.to_table(rows))


def test_the_papers_choice_is_priced_by_the_reads() -> None:
    run = _run(_rows())
    choices = flash_choices(run.decisions, run.points)
    assert [choice.budget.label for choice in choices] == [b.label for b in run.budgets]
    for choice in choices:
        within = [p for p in run.points if p.delta_ppl <= choice.budget.limit(p.ppl_dense)]
        real = [p for p in within if not p.bound]
        assert choice.by_paper.tokens_per_s_paper == max(p.tokens_per_s_paper for p in real)
        assert choice.by_device.tokens_per_s == max(p.tokens_per_s for p in real)
        assert choice.lost == pytest.approx(
            1 - choice.by_paper.tokens_per_s / choice.by_device.tokens_per_s
        )
    loose = choices[-1]
    assert loose.by_paper.density <= 0.6
    assert loose.overrated == pytest.approx(10)
    assert loose.lost > 0.5


def test_both_reports_tell_it_and_escape_names() -> None:
    run = _run(_rows(device="<b>&|"))
    text, page = markdown.render(run), html.render(run)
    part = text.split("## Flash as it is")[1].split("\n## ")[0]
    assert "1.00× to 10.00× as fast as the device's reads let them be" in part
    assert "1 of 2 choices are others, most often dip-ca (1)" in part
    assert "loses up to 88.3 %" in part
    assert "| 1,000 | 2\\.00 KiB | 25\\.0 % |" in part
    assert "<b>&|" not in page
    assert '<section id="flash"' in page


def test_without_reads_there_is_no_section() -> None:
    run = _run(synthetic.table(flaws=False).to_pylist())
    assert flash.html_section(run) is None
    assert list(flash.markdown_section(run)) == []
    assert '<section id="flash"' not in html.render(run)


LINE = {
    "label": "dip <b>&|",
    "reads_per_token": 1234.0,
    "bytes_per_token": 2.5e6,
    "paper_s": 0.001,
    "affine_s": 0.0045,
    "curve_s": 0.005,
    "measured_s": 0.0052,
    "measured_low_s": 0.005,
    "measured_high_s": 0.006,
    "valid": True,
    "reason": "",
}


def _with_stopwatch(folder: Path, *lines: object) -> Run:
    pq.write_table(synthetic.table(flaws=False), folder / "results.parquet")
    written = json.dumps({"lines": lines, "verdict": "The curve is off by 4%."})
    (folder / "replay.json").write_text(written, encoding="utf-8")
    return load(folder)


def test_what_was_replayed_stands_beside_what_was_predicted(tmp_path: Path) -> None:
    late = {**LINE, "label": "late", "valid": False, "reason": "descheduled"}
    run = _with_stopwatch(tmp_path, LINE, late)
    text, page = markdown.render(run), html.render(run)
    part = text.split("## Stopwatch")[1].split("\n## ")[0]
    assert "- The curve is off by 4%." in part
    assert "| 1,234 | 2\\.50 | 1\\.00 | 4\\.50 | 5\\.00 | 5\\.20 | 5\\.00 | 6\\.00 |" in part
    assert "| descheduled | – | – |" in part
    assert '<section id="stopwatch"' in page
    assert page.count("measured 5.20</title>") == 3
    assert "<b>&|" not in page


def test_products_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    products = {
        "used_bytes_per_token": 3e6,
        "computing_s": 0.0021,
        "predicted_s": 0.0061,
        "measured_s": 0.0063,
        "measured_low_s": 0.006,
        "measured_high_s": 0.007,
        "valid": True,
    }
    not_valid = {**LINE, "label": "late", "products": {**products, "valid": False}}
    run = _with_stopwatch(tmp_path, {**LINE, "products": products}, not_valid)
    text, page = markdown.render(run), html.render(run)
    part = text.split("The same with products")[1].split("\n## ")[0]
    assert "| 2\\.10 | 6\\.10 | 6\\.30 | 6\\.00 | 7\\.00 |" in part
    assert "late" not in part
    assert "Flash and products of a token in ms" in page
    without = _with_stopwatch(tmp_path, LINE)
    assert "with products" not in markdown.render(without)


@pytest.mark.parametrize("broken", [{}, {**LINE, "measured_s": None}, {**LINE, "paper_s": "x"}])
def test_a_stopwatch_that_cannot_be_read_is_none(tmp_path: Path, broken: object) -> None:
    run = _with_stopwatch(tmp_path, broken)
    assert run.stopwatch == ()
    assert "## Stopwatch" not in markdown.render(run)
