"""A joint search from the sweep to its answer, on made-up evaluations, against the grid."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import reports
from sweep import api
from sweep.cli import app as cli
from sweep.errors import InputError
from sweep.execution import session
from sweep.execution.session import StoppedError
from sweep.plan.sweep_plan import plan_sweep
from sweep.search import best
from sweep.search.best import Answer
from sweep.search.joint import command
from sweep.search.joint.settings import settings_of
from sweep.spec import file as spec
from sweep.spec.entries import Sweep
from tests.sweep import made_up

QUIET = Console(quiet=True)
METHODS = [
    "dense",
    {"method": "dip", "density": {"from": 0.4, "to": 0.95, "step": 0.05},
     "gamma": [0.05, 0.1, 0.2, 0.5, 1], "allocation": ["paper", "uniform"]},
]  # fmt: skip
SMALL = ["dense", {"method": "dip", "density": {"from": 0.5, "to": 0.9, "step": 0.1},
                   "gamma": [0.2, 1]}]  # fmt: skip


@pytest.fixture(autouse=True)
def _made_up_evaluations(monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)


def made(**changes: Any) -> Sweep:
    file = made_up.sweep_file(**{"methods": METHODS, **changes})
    return spec.select(spec.from_mapping(file, "f"), "a")


def options(out: Path) -> api.Options:
    return api.Options(out, workers=0, report=False)


def searched(sweep: Sweep, out: Path, *budgets: str, trials: int = 60) -> Answer:
    return command.search(sweep, options(out), QUIET, budgets, trials)[0]


def trials(out: Path) -> list[dict[str, str]]:
    with (out / command.TRIALS).open() as file:
        return list(csv.DictReader(file))


def keys(out: Path) -> list[str]:
    lines = (out / "journal.jsonl").read_text().splitlines()
    return sorted(json.loads(line)["record"]["key"] for line in lines)


def test_the_answer_is_that_of_the_grid_for_fewer_tokens(tmp_path: Path):
    sweep = made()
    found = searched(sweep, tmp_path / "joint", "5%")
    table = api.run(sweep, options(tmp_path / "grid"), QUIET).table
    (decision,) = reports.decide(table, ["5%"])
    (winner,) = found.best
    assert decision.best is not None
    assert winner.row["tokens_per_s"] == pytest.approx(decision.best.tokens_per_s, rel=0.02)
    assert winner.whole
    assert winner.row["windows"] == 8
    assert found.cost.share < 0.25
    assert found.cost.run_now == found.cost.tokens
    told = trials(tmp_path / "joint")
    assert any(0 < int(t["windows"]) < 8 for t in told if t["state"] == "stopped")
    written = json.loads((tmp_path / "joint" / "joint.json").read_text())
    entry = next(e for e in written["found"] if e["best"])
    assert entry["chosen"]["gamma"] == winner.series.point.gamma
    assert written["tokens"] == found.cost.tokens
    assert written["grid_tokens"] == found.cost.grid_tokens


def test_nothing_next_to_the_answer_was_left_untried(tmp_path: Path):
    answer = searched(made(), tmp_path, "2%", "5%")
    planned = plan_sweep(made())
    (setting,) = settings_of(planned, [])
    tried = {trial["point_key"] for trial in trials(tmp_path)}
    for found in answer.best:
        place = [p.key for p in setting.axes.points].index(found.series.point.key)
        assert {setting.axes.points[other].key for other in setting.axes.near(place)} <= tried


def test_interrupted_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    devices = [{"device": "apple-a18", "dram_gb": 0.064, "flash_gbps": [0.5, 1]}]
    sweep = made(methods=SMALL, devices=devices)
    whole = searched(sweep, tmp_path / "a", "5%", "10%", trials=8)
    calls, plain = iter(range(10_000)), session.Session.run_all
    stops = {0, 2, 3, 7, 12, 20}

    def stopping(self: session.Session, plan: Any) -> None:
        if next(calls) in stops:
            raise StoppedError("stopped by SIGTERM")
        plain(self, plan)

    monkeypatch.setattr(session.Session, "run_all", stopping)
    again = None
    while again is None:
        try:
            again = searched(sweep, tmp_path / "b", "5%", "10%", trials=8)
        except StoppedError:
            continue
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert keys(tmp_path / "a") == keys(tmp_path / "b")
    assert again.found == whole.found
    counted = [(a.cost.evaluations, a.cost.tokens, a.cost.grid_tokens) for a in (whole, again)]
    assert counted[0] == counted[1]


def test_a_search_that_ended_runs_nothing_again(tmp_path: Path):
    sweep = made(methods=SMALL)
    first = searched(sweep, tmp_path, "5%", trials=8)
    told = trials(tmp_path)
    again = searched(sweep, tmp_path, "5%", trials=8)
    assert again.cost.run_now == 0
    assert again.cost.tokens == first.cost.tokens > 0
    assert trials(tmp_path) == told


def test_what_a_run_knows_is_not_asked_for(tmp_path: Path):
    """After the grid a search begins with its points, and evaluates nothing."""
    sweep = made(methods=SMALL)
    table = api.run(sweep, options(tmp_path), QUIET).table
    answer, notes = command.search(sweep, options(tmp_path), QUIET, ["5%"])
    assert answer.cost.run_now == 0
    known = [t for t in trials(tmp_path) if t["known"] == "True"]
    assert len(known) == 10
    assert "10 more were known when" in notes[0]
    (decision,) = reports.decide(table, ["5%"])
    assert decision.best is not None
    assert [f.row["tokens_per_s"] for f in answer.best] == [decision.best.tokens_per_s]


def test_the_cost_stands_beside_that_of_a_bisection(tmp_path: Path):
    sweep = made(methods=SMALL)
    bisected = best.search(sweep, options(tmp_path), QUIET, ["5%"])
    _, notes = command.search(sweep, options(tmp_path), QUIET, ["5%"], 8)
    assert f"took {bisected.cost.tokens:,} tokens" in notes[1]
    _, other = command.search(sweep, options(tmp_path), QUIET, ["10%"], 8)
    assert len(other) == 1
    assert json.loads((tmp_path / "search.json").read_text())["tokens"] == bisected.cost.tokens


def test_a_budget_of_kl_is_searched_within(tmp_path: Path):
    found = searched(made(methods=SMALL), tmp_path, "kl=0.02", trials=10)
    told = trials(tmp_path)
    for trial in told:
        if trial["state"] == "done":
            assert (trial["feasible"] == "True") == (float(trial["kl"]) <= 0.02)
    (winner,) = found.best
    assert winner.row["kl"] <= 0.02
    page = io.StringIO()
    Console(file=page, width=200).print(best.tables(found))
    assert "KL ≤ 0.02 nat" in page.getvalue()


def test_dense_is_shipped_where_no_trial_is_within(tmp_path: Path):
    found = searched(made(methods=SMALL), tmp_path, "0.000001", trials=6)
    assert found.best == []
    assert [b.label for _, b in found.dense_wins] == ["+1e-06 PPL"]
    page = io.StringIO()
    Console(file=page, width=200).print(best.tables(found))
    assert page.getvalue().startswith("Ship dense: nothing within +1e-06 PPL is faster")
    assert "no trial is within" in page.getvalue()
    (entry,) = json.loads((tmp_path / "joint.json").read_text())["found"]
    assert (entry["method"], entry["density"]) == (None, None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--search", "--trials", "5"], "--trials are of --joint"),
        (["--search", "--joint", "--screen", "bfloat16"], "--screen is for a bisection"),
        (["--joint", "--within", "joule=0.4"], "cannot keep 0.4 J a token"),
    ],
)
def test_bad_input_is_one_clear_error(given: list[str], words: str, tmp_path: Path):
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(made_up.sweep_file(methods=SMALL)))
    done = CliRunner().invoke(cli.app, ["best", "a", *given, "--file", str(file)])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
