"""What a certification states, as reports, JSON, `best` and gates show it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reports
from reports.compare.changes import Side, compare, side
from reports.compare.gate import judge, parse
from reports.reading.run import Run, load
from sweep.results.compare import run as compared
from tests.reports import synthetic

BUDGETS = ("5%", "0.5")
SHAPE = synthetic.Shape(densities=(0.5, 0.7, 0.9), dram_gb=(0.05,), flash_gbps=(1.0, 2.0))


def cell(decision: Any, decided: bool, **changes: Any) -> dict[str, Any]:
    """What certainty.json says of a decision: its conservative choice, and the best as a rival."""
    choice, best = decision.conservative, decision.best
    body = {
        "member": best.point_key,
        "budget": decision.budget.written,
        "decided": decided,
        "choice": choice.point_key,
        "bound": 0.031,
        "estimated": best.point_key,
        "rivals": [] if decided else [best.point_key],
        "windows_needed": None if decided else 48.0,
    }
    return body | changes


def folder_of(path: Path, *opened: int, **changes: Any) -> Path:
    """A run folder that states all of its choices, those of `opened` as open."""
    synthetic.run_folder(path, synthetic.table(SHAPE, flaws=False))
    plan = json.loads((path / "plan.json").read_text()) | {"budgets": list(BUDGETS)}
    (path / "plan.json").write_text(json.dumps(plan))
    decisions = load(path).decisions
    cells = [
        cell(d, i not in opened, **(changes if i in opened else {}))
        for i, d in enumerate(decisions)
    ]
    document = {
        "alpha": 0.05,
        "looks": [4, 8, 16, 32],
        "windows_of_text": 60,
        "windows_used": 250,
        "windows_of_all": 1000,
        "cells": cells,
    }
    (path / "certainty.json").write_text(json.dumps(document))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return load(folder_of(tmp_path / "run", 1))


def test_the_report_leads_with_how_much_is_certain(run: Run, tmp_path: Path) -> None:
    reports.build(tmp_path / "run", ("md", "html", "json"))
    page = (tmp_path / "run" / "report.md").read_text()
    lead = page.partition("## What to ship")[2].strip().splitlines()
    assert re.match(r"- .*: certain at 95 % to be within .*: .* in \d of 2 settings", lead[0])
    assert "Decided at 95 %, for all of them together: 3 of 4 choices." in page
    assert "25 % of the windows" in page
    assert "1 is open: 1 would take up to some 48 windows." in page
    assert "chosen among" not in page
    html = (tmp_path / "run" / "report.html").read_text()
    assert 'id="certain"' in html
    assert html.index("certain at 95 %") < html.index("<table")


def test_each_choice_has_its_bound_and_the_estimate_where_it_differs(
    run: Run, tmp_path: Path
) -> None:
    reports.build(tmp_path / "run", ("md",))
    page = (tmp_path / "run" / "report.md").read_text().replace("\\", "")
    rows = [line for line in page.splitlines() if "Decided." in line or "| Open:" in line]
    assert len(rows) == 4
    assert all("at most +3.10 %" in line or "at most +0.031" in line for line in rows)
    cells = [d.certified for d in run.decisions]
    same = sum(c is not None and c.choice == c.estimated for c in cells)
    assert sum("the same" in line for line in rows) == same
    assert "Some 48 windows would tell, 16 more." in page


def test_what_settles_an_open_choice_is_said(tmp_path: Path) -> None:
    for needed, words in (
        (48.0, "Some 48 windows would tell, 16 more."),
        (480.0, "Some 480 windows would tell, 448 more, more than the text has."),
        (20.0, "Some 20 windows would tell."),
        (None, "no number of windows would tell"),
    ):
        loaded = load(folder_of(tmp_path / str(needed), 1, windows_needed=needed))
        said = loaded.statement
        assert said is not None
        (opened,) = (c for c in said.cells.values() if not c.decided)
        assert words in said.about(opened)


def test_json_has_it_for_programs(run: Run, tmp_path: Path) -> None:
    reports.build(tmp_path / "run", ("json",))
    document = json.loads((tmp_path / "run" / "report.json").read_text())
    assert document["certainty"]["looks"] == [4, 8, 16, 32]
    states = [d["certified"]["decided"] for d in document["decisions"]]
    assert states == [True, False, True, True]
    assert document["decisions"][1]["certified"]["windows_needed"] == 48.0


def test_a_statement_that_cannot_be_read_is_a_problem_of_the_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run")
    for text in ("{", "{}", json.dumps({"cells": [{"member": "none"}]})):
        (folder / "certainty.json").write_text(text)
        loaded = load(folder)
        assert loaded.statement is None
        assert any("certainty.json cannot be read" in problem for problem in loaded.problems)
        reports.build(folder, ("md",))


def test_other_budgets_than_those_stated_are_decided_as_ever(tmp_path: Path) -> None:
    loaded = load(folder_of(tmp_path / "run"), ["7%", "5%"])
    assert [d.certified is not None for d in loaded.decisions] == [False, True] * 2


# -- gates -----------------------------------------------------------------------------------


def hits(expression: str, old: Path, new: Path) -> int:
    ((_, (verdict,)),) = compared([old, new], [expression])
    return len(verdict.hits)


def test_gates_know_what_is_open(tmp_path: Path) -> None:
    old, new = folder_of(tmp_path / "old", 1), folder_of(tmp_path / "new", 1, 2)
    assert hits("open > 0", old, new) == 2
    assert hits("open > 2", old, new) == 0
    assert hits("undecided > 0", old, new) == 1
    assert hits("undecided > 0", new, old) == 0


def test_a_gate_on_what_is_certain_needs_a_run_that_states_it(tmp_path: Path) -> None:
    old, new = folder_of(tmp_path / "old"), folder_of(tmp_path / "new")
    (new / "certainty.json").unlink()
    with pytest.raises(reports.ReportError, match="new was not run until it is certain"):
        hits("open > 0", old, new)
    assert hits("undecided > 0", old, new) == 4


def test_decided_choices_alone_are_compared_where_that_is_asked(tmp_path: Path) -> None:
    old, new = folder_of(tmp_path / "old", 0), folder_of(tmp_path / "new")
    sides = [_side(folder) for folder in (old, new)]
    changes = compare(sides[0], sides[1], [d.budget for d in load(old).decisions[:1]])
    everything = judge(parse("best@5% <= 0"), changes)
    certain = judge(parse("best@5% <= 0 decided"), changes)
    assert everything.looked_at == 2
    assert certain.looked_at == 1  # the other setting is open in the old run
    assert len(certain.hits) == 1


def _side(folder: Path) -> Side:
    loaded = load(folder)
    assert loaded.statement is not None
    return replace(side(folder.name, list(loaded.rows)), certified=loaded.statement.cells)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("open > 1%", "open is a number of choices, not a share"),
        ("ppl > 0 decided", "only best@BUDGET can be decided"),
        ("undecidd > 0", "did you mean undecided"),
    ],
)
def test_a_gate_that_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(reports.ReportError, match=words):
        parse(text)
