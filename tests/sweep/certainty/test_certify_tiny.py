"""Certifications of a tiny model that is really run: from the sweep file to what is stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reports.results import read_table
from sweep.cli import app as cli
from sweep.errors import InputError, SweepError
from sweep.store.store import Store

BUDGETS = "[0.05%, 0.2%, 1%, 0.5]"


@pytest.fixture
def file(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> Path:
    """A sweep of a tiny model on a text of 31 windows."""
    for i, name in enumerate(("reported", "calibrated")):
        (tmp_path / f"{name}.txt").write_text(tiny_text[2000 * i : 2000 * (i + 1)])
    path = tmp_path / "sweeps.yaml"
    path.write_text(
        f"""
sweeps:
  tiny:
    models: [{tiny_llama}]
    text: {tmp_path}/reported.txt
    calibration: {tmp_path}/calibrated.txt
    windows: 4
    window_tokens: 64
    shard_windows: 2
    kv: {{tokens: 64}}
    budgets: {BUDGETS}
    methods: [dense, {{method: dip, density: [0.3, 0.5, 0.7, 0.9], gamma: [0.2, 1.0]}}]
    devices: [{{device: mine, dram_gb: [0.000032, 0.00004], flash_gbps: 0.001, dram_gbps: 60}}]
"""
    )
    return path


def sweep(*arguments: Any) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if isinstance(done.exception, SweepError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def run(file: Path, out: Path, *more: Any, until: bool = True) -> str:
    flag = ["--until-certain"] if until else []
    given = ("run", "tiny", "--file", file, "--out", out, "--workers", 0, "--no-report", *more)
    return sweep(*given, *flag)


def stated(out: Path) -> dict[str, Any]:
    return json.loads((out / "certainty.json").read_text())


def rows(out: Path) -> list[dict[str, Any]]:
    return read_table(out / "results.parquet").to_pylist()


def evaluated(out: Path) -> set[str]:
    return {key for key, r in Store(out).records.items() if r.kind == "evaluate"}


def test_windows_go_where_a_decision_hangs(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = run(file, out)
    document = stated(out)
    assert document["looks"] == [4, 8, 16, 31]
    assert len(document["cells"]) == 8
    assert f"{sum(c['decided'] for c in document['cells'])} of 8 choices are decided" in printed
    windows = {row["windows"] for row in rows(out)}
    assert min(windows) < max(windows)
    assert windows <= {4, 8, 16, 31}
    assert document["windows_used"] < document["windows_of_all"]
    assert all(row["status"] == "done" and row["windows_asked"] == 4 for row in rows(out))


def test_a_decided_cell_names_its_choice_in_the_table(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(file, out)
    said = {r["point_key"]: json.loads(r["decided"]) for r in rows(out) if r["decided"]}
    choices = {(key, budget) for key, by in said.items() for budget in by if by[budget] == "choice"}
    cells = stated(out)["cells"]
    table = sweep("best", out)
    assert table.count("decided  ") + table.count("open  ") >= len(cells)
    assert "best, sure" not in table
    assert {(c["choice"], c["budget"]) for c in cells if c["choice"]} == choices
    for cell in (c for c in cells if not c["decided"]):
        assert all(said[key][cell["budget"]] == "open" for key in cell["rivals"])
        assert cell["windows_needed"] is None or cell["windows_needed"] > 4


def test_an_interrupted_certification_goes_on(file: Path, tmp_path: Path) -> None:
    """After its first pass, and after a stop in the middle: the same tasks and the same words."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(file, whole)
    run(file, parts, until=False)
    assert not (parts / "certainty.json").exists()
    first = evaluated(parts)
    CliRunner().invoke(
        cli.app,
        [
            *("run", "tiny", "--file", str(file), "--out", str(parts), "--workers", "0"),
            *("--until-certain", "--max-hours", "0"),
        ],
    )
    assert not (parts / "certainty.json").exists()
    printed = sweep("certify", parts, "--workers", 0, "--no-report")
    assert "choices are decided" in printed
    assert first < evaluated(parts) == evaluated(whole)
    assert stated(parts) == stated(whole)
    times = ("task_keys",)
    for a, b in zip(rows(whole), rows(parts), strict=True):
        assert {k: v for k, v in a.items() if k not in times} == {
            k: v for k, v in b.items() if k not in times
        }


def test_going_on_with_a_certain_run_runs_nothing(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(file, out)
    before, document = evaluated(out), stated(out)
    printed = sweep("certify", out, "--workers", 0, "--no-report")
    assert "nothing was missing" in printed
    assert evaluated(out) == before
    assert stated(out) == document


def test_a_run_without_it_states_nothing_any_more(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(file, out)
    run(file, out, until=False)
    assert not (out / "certainty.json").exists()
    assert all(row["decided"] is None and row["windows"] == 4 for row in rows(out))


def test_a_limit_of_windows_is_kept(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(file, out, "--set", "sweeps.tiny.certify.most_windows=8")
    assert stated(out)["looks"] == [4, 8]
    assert {row["windows"] for row in rows(out)} <= {4, 8}


def test_a_stricter_level_never_makes_more_certain(file: Path, tmp_path: Path) -> None:
    loose, strict = tmp_path / "loose", tmp_path / "strict"
    run(file, loose, "--set", "sweeps.tiny.certify.alpha=0.2")
    run(file, strict, "--set", "sweeps.tiny.certify.alpha=0.00001", "--store", loose)
    decided = [sum(c["decided"] for c in stated(out)["cells"]) for out in (loose, strict)]
    assert decided[0] >= decided[1]


def test_without_sparing_every_rival_has_all_windows(file: Path, tmp_path: Path) -> None:
    spared, out = tmp_path / "spared", tmp_path / "run"
    run(file, spared)
    assert stated(spared)["windows_used"] < stated(spared)["windows_of_all"]
    go_on = ("--set", "sweeps.tiny.certify.spare_windows=false", "--store", spared)
    run(file, out, *go_on)
    before, after = ({row["point_key"]: row for row in rows(of)} for of in (spared, out))
    rivals = {rival for cell in stated(out)["cells"] for rival in cell["rivals"]}
    assert {after[rival]["windows"] for rival in rivals} == {31}
    assert {before[rival]["windows"] for rival in rivals} != {31}
    for least, cell in zip(stated(spared)["cells"], stated(out)["cells"], strict=True):
        speeds = [
            table[chosen["choice"]]["tokens_per_s"]
            for table, chosen in ((before, least), (after, cell))
        ]
        assert speeds[1] >= speeds[0] * 0.99, "windows change the speed of a choice a little"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["windows=all"], r"windows: all are asked for at once"),
        (["window_order=first"], r"window_order: the first windows of a text say little"),
        (["certify.most_windows=2"], r"most_windows: 2 windows are allowed, and .* 4"),
        (["windows=8", "certify.most_windows=6"], r"6 windows are allowed, .* first pass has 8"),
        (["certify.most_windows=99"], r"99 windows are asked for; text .* has 31 windows"),
        (["budgets=[kl=0.1]"], r"kl=0.1: KL is not measured; set distances: true"),
        (["budgets=[joule=1]"], r"joule=1: no device of the sweep says what a byte takes"),
        (["budgets=[acc_boolq=0.1]"], r"acc_boolq=0.1: the sweep has no task boolq"),
        (
            ["windows=2", "window_tokens=512"],
            r"has 3 windows of 512 tokens for .*; 4 are the least",
        ),
    ],
)
def test_what_cannot_be_certified_is_refused(
    file: Path, tmp_path: Path, changes: list[str], words: str
) -> None:
    sets = [part for change in changes for part in ("--set", f"sweeps.tiny.{change}")]
    with pytest.raises(InputError, match=words):
        run(file, tmp_path / "run", *sets)


def test_a_part_of_a_table_is_not_certified(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="decides a table as a whole"):
        run(file, tmp_path / "run", "--only", "dip")


def test_a_run_of_other_values_is_not_gone_on_with(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(file, out, "--set", "sweeps.tiny.seed=3", until=False)
    with pytest.raises(InputError, match="was run with another seed than"):
        sweep("certify", out, "--workers", 0)
    with pytest.raises(InputError, match=r"not the folder of a run: it has no plan.json"):
        sweep("certify", tmp_path, "--workers", 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_change_nothing(file: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(file, alone)
    given = ("run", "tiny", "--file", file, "--out", together, "--workers", 2, "--no-report")
    sweep(*given, "--until-certain")
    assert stated(alone) == stated(together)
    assert evaluated(alone) == evaluated(together)
    assert rows(alone) == rows(together)
