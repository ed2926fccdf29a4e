"""`sweep best` in the terminal: what is sure, the runner-up, and what is missing for an answer."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reports.numbers import figure
from reports.reading.run import load
from sweep.cli import app as cli
from sweep.cli.tables import decisions
from tests.reports import synthetic

SHAPE = synthetic.Shape(densities=(0.7, 0.9), dram_gb=(0.05,), flash_gbps=(1.0,))


def folder_of(folder: Path, change: Any = None) -> Path:
    """A run folder; `change` gets the rows and returns those that stay."""
    found = synthetic.table(SHAPE, flaws=False).to_pylist()
    found = found if change is None else change(found)
    return synthetic.run_folder(folder / "run", synthetic.to_table(found))


def printed(run: Path, *budgets: str, width: int = 80) -> tuple[list[str], list[str]]:
    """Lines of the terminal, and what is said to be missing."""
    decided = decisions(run, list(budgets))
    page = io.StringIO()
    Console(file=page, width=width).print(decided.shown)
    return page.getvalue().splitlines(), decided.lacking


def best(monkeypatch: pytest.MonkeyPatch, run: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["sweep", "best", str(run), "-b", "5%"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def without_dense(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["method"] != "dense"]


def dense_with(**changes: Any) -> Any:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nothing = dict.fromkeys(synthetic.FIGURES)
        return [{**r, **nothing, **changes} if r["method"] == "dense" else r for r in rows]

    return change


def test_the_doubtful_the_sure_and_the_runner_up_are_rows(tmp_path: Path) -> None:
    def doubtful(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        fastest = max(without_dense(rows), key=lambda r: r["tokens_per_s"])
        fastest |= {"delta_ppl": 0.1, "delta_ppl_high": 9.0, "policy": "lfu", "method": "dip"}
        return rows

    lines, lacking = printed(folder_of(tmp_path, doubtful), "5%", width=120)
    assert lacking == []
    table = [line for line in lines if "tok/s  gain" not in line]
    (choice,) = [line for line in table if line.startswith("+5 %")]
    assert " best " in choice
    assert " ± " in choice
    assert any("best sure" in line and "±" not in line for line in table)
    assert any("runner-up" in line for line in table)
    assert any(line.startswith("±: the 95 % interval") for line in lines)


def test_it_fits_eighty_columns(tmp_path: Path) -> None:
    lines, _ = printed(folder_of(tmp_path), "0.1", "5%")
    assert max(map(len, lines)) <= 80
    assert not any("…" in line and "+" not in line for line in lines)


def test_a_run_with_dense_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert best(monkeypatch, folder_of(tmp_path)) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_dense, "has no `dense` among its methods; add it"),
        (dense_with(status="missing"), "is not finished; run the sweep again to go on"),
        (dense_with(status="failed", error="boom"), "failed (boom); run the sweep again with"),
        (lambda _: [], "has no point"),
    ],
)
def test_a_run_without_dense_says_what_is_missing(
    change: Any,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = folder_of(tmp_path, change)
    assert best(monkeypatch, run) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith(str(run))
    assert "Traceback" not in error


def with_kl(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        names = {"kl": "delta_ppl", "kl_low": "delta_ppl_low", "kl_high": "delta_ppl_high"}
        row |= {name: row[other] / 10 for name, other in names.items()}
    return rows


def test_a_budget_of_kl_has_a_table_of_its_own(tmp_path: Path) -> None:
    lines, lacking = printed(folder_of(tmp_path, with_kl), "kl=0.05", "5%", "kl=0.1")
    assert lacking == []
    assert max(map(len, lines)) <= 80
    heads = [line.split()[5] for line in lines if line.startswith("within ")]
    assert heads == ["KL", "ΔPPL"]
    choices = [line for line in lines if line.startswith("KL ≤ ")]
    assert [line[:9].strip() for line in choices] == ["KL ≤ 0.05", "KL ≤ 0.1"]
    run = load(folder_of(tmp_path / "again", with_kl), ["kl=0.05"])
    best = run.decisions[0].best
    assert best is not None
    assert figure(best.kl) in choices[0]
    assert "+" not in choices[0]
    assert any("interval of KL or ΔPPL" in line for line in lines)


@pytest.mark.parametrize("option", ["--within", "--budget", "-b"])
def test_without_distances_a_budget_of_kl_says_how_to_measure_them(
    option: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = folder_of(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sweep", "best", str(run), option, "kl=0.02"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{run}: within KL ≤ 0.02 nat: KL was not measured")
    assert "`distances: true`" in line


def test_failed_points_are_no_setting(tmp_path: Path) -> None:
    def failed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nothing = dict.fromkeys((*synthetic.FIGURES, "windows"))
        rows[3] |= {**nothing, "status": "failed", "error": "boom"}
        return rows

    lines, lacking = printed(folder_of(tmp_path, failed), "5%")
    assert lacking == []
    assert sum(line.startswith("+5 %") for line in lines) == 1
    assert "-1 windows" not in "\n".join(lines)
