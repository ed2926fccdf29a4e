"""Budgets of perplexity and KL as bounds on means over windows, in studies and in bisection."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import reports
from reports.findings.budgets import KL, Budget
from sweep import api
from sweep.errors import InputError
from sweep.search import best, tune
from sweep.search.limits import Limit, ends_of, measuring, surely_within
from sweep.spec import file as spec
from tests.sweep import made_up

QUIET = Console(quiet=True)
PPL = 15.0
KL_ENTRY = {
    "sweep": "a",
    "search": {"gamma": [0.05, 1.0], "density": [0.4, 0.95]},
    "objective": {"maximize": "tokens_per_s", "within": "kl=0.02"},
    "trials": 12,
}


@pytest.fixture(autouse=True)
def _made_up_evaluations(monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)


def options(out: Path) -> api.Options:
    return api.Options(out, workers=0, report=False)


def test_a_limit_of_kl_is_its_own_mean_and_one_of_perplexity_a_logarithm():
    of_kl, relative = Limit(Budget(0.02, of=KL), PPL), Limit(Budget(0.05, True), PPL)
    assert (of_kl.column, of_kl.most, of_kl.mean) == ("kl", 0.02, 0.02)
    assert relative.column == "delta_ppl"
    assert relative.most == pytest.approx(0.75)
    assert relative.mean == pytest.approx(math.log(1.05))
    for limit in (of_kl, relative):
        assert limit.beyond(limit.most) == limit.log_beyond(limit.most) == pytest.approx(0)
        assert limit.log_beyond(limit.most / 2) < 0 < limit.log_beyond(2 * limit.most)
        assert limit.log_beyond(-1.0) == pytest.approx(math.log(0.01))
    nothing = Limit(Budget(0.0, of=KL), PPL)
    assert nothing.log_beyond(0.01) == nothing.beyond(0.01) == 0.01


def test_an_interval_is_of_what_the_budget_is_of():
    row = {"delta_ppl_low": 0.1, "delta_ppl_high": 0.3, "ppl_ratio_high": 1.02,
           "kl_low": 0.01, "kl_high": 0.03}  # fmt: skip
    assert ends_of(row, Budget(0.2)) == (0.1, 0.3)
    assert ends_of(row, Budget(0.02, of=KL)) == (0.01, 0.03)
    assert not surely_within(row, Budget(0.02, of=KL))
    assert surely_within(row, Budget(0.03, of=KL))
    assert surely_within(row, Budget(0.02, True))
    assert math.isnan(ends_of({"kl_low": None, "kl_high": None}, Budget(0.1, of=KL))[0])


def test_kl_is_measured_only_where_a_budget_is_of_it():
    sweep = spec.select(spec.from_mapping(made_up.sweep_file()), "a")
    assert measuring(sweep, [Budget(0.1)]) is sweep
    assert measuring(sweep, [Budget(0.1), Budget(0.02, of=KL)]).distances


# -- studies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_study_keeps_a_budget_of_kl_and_stops_by_it(sampler: str, tmp_path: Path):
    done = tune.tune(made_up.loaded(KL_ENTRY | {"sampler": sampler}), options(tmp_path), QUIET)
    with (tmp_path / "trials.csv").open() as file:
        told = list(csv.DictReader(file))
    whole = [t for t in told if t["state"] == "done"]
    assert whole
    for trial in whole:
        assert (trial["feasible"] == "True") == (float(trial["kl"]) <= 0.02)
    stopped = [t for t in told if t["stopped"] == "beyond the budget"]
    assert stopped
    assert all(float(t["kl"]) > 0.02 and int(t["windows"]) < 8 for t in stopped)
    (winner,) = done.winners
    assert winner.tuned["kl"] <= 0.02
    assert winner.reported["kl"] is not None
    page = (tmp_path / "study.md").read_text()
    assert "within KL ≤ 0.02 nat" in page
    assert "| KL tuned | KL reported |" in page


def test_a_study_may_minimise_kl(tmp_path: Path):
    goals = {"maximize": "tokens_per_s", "minimize": "kl"}
    made = made_up.loaded(KL_ENTRY | {"objective": goals, "trials": 4})
    assert made.tuning.distances
    assert made.reported.distances
    done = tune.tune(made, options(tmp_path), QUIET)
    assert all(trial.values[1] == trial.notes["kl"] for t in done.trials.values() for trial in t)


def test_perplexity_alone_measures_no_kl():
    goals = {"maximize": "tokens_per_s", "within": "5%"}
    assert not made_up.loaded(KL_ENTRY | {"objective": goals}).tuning.distances


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"search": {"selector": ["topk", "read-aware"], "lam": [1, 9], "density": [0.5, 0.9]}},
         "KL is not measured at a price of reads; leave out lam"),
        ({"search": {"quant": ["rtn", "gptq"], "density": [0.5, 0.9]}},
         "cannot tell which quant to choose"),
        ({"search": {"bits": {"from": 3, "to": 4, "step": 1}, "density": [0.5, 0.9]}},
         "cannot tell which bits to choose"),
    ],
)  # fmt: skip
def test_where_kl_cannot_be_measured_is_said(change: dict[str, Any], words: str):
    with pytest.raises(InputError, match=r"^f: studies\.s: KL is") as caught:
        made_up.loaded(KL_ENTRY | change)
    assert words in str(caught.value)


def test_a_study_takes_no_budget_that_windows_do_not_tell_of():
    goals = {"maximize": "tokens_per_s", "within": "joule=0.4"}
    with pytest.raises(InputError, match=r"one of perplexity, or of KL as kl=0\.02"):
        made_up.loaded(KL_ENTRY | {"objective": goals})


# -- bisection -------------------------------------------------------------------------------------


def test_bisection_within_kl_has_the_answer_of_the_grid(tmp_path: Path):
    methods = ["dense", {"method": "dip", "density": {"from": 0.4, "to": 0.98, "step": 0.02},
                         "gamma": [0.2, 1]}]  # fmt: skip
    sweep = spec.select(spec.from_mapping(made_up.sweep_file(methods=methods)), "a")
    found = best.search(sweep, options(tmp_path / "search"), QUIET, ["kl=0.02", "5%"])
    assert found.cost.share < 0.3
    grid = sweep.model_copy(update={"distances": True})
    table = api.run(grid, options(tmp_path / "grid"), QUIET).table
    assert set(table["status"].to_pylist()) == {"done"}
    expected = [d.best.tokens_per_s for d in reports.decide(table, ["kl=0.02", "5%"]) if d.best]
    answers = {f.budget.label: f for f in found.best}
    assert [answers[b].row["tokens_per_s"] for b in ("KL ≤ 0.02 nat", "+5 %")] == expected
    winner = answers["KL ≤ 0.02 nat"]
    assert winner.row["kl"] <= 0.02
    assert (winner.low, winner.high) == (winner.row["kl_low"], winner.row["kl_high"])
    written = json.loads((tmp_path / "search" / "search.json").read_text())
    of_kl = [e for e in written["found"] if e["budget"] == "KL ≤ 0.02 nat" and e["best"]]
    assert [e["kl_estimate"] for e in of_kl] == [winner.row["kl"]]
    page = io.StringIO()
    Console(file=page, width=200).print(best.tables(found))
    heads = [line for line in page.getvalue().splitlines() if "tok/s" in line]
    assert ["ΔPPL" in heads[0], "KL" in heads[1]] == [True, True]


def test_nothing_may_be_lost_is_a_budget_too(tmp_path: Path):
    sweep = spec.select(spec.from_mapping(made_up.sweep_file()), "a")
    found = best.search(sweep, options(tmp_path), QUIET, ["0", "kl=0"])
    assert found.best == []


@pytest.mark.parametrize("asked", [("0.1", "joule=0.4"), ("acc_piqa=0.02",)])
def test_a_search_refuses_what_windows_do_not_tell_of(asked: tuple[str, ...]):
    sweep = spec.select(spec.from_mapping(made_up.sweep_file()), "a")
    with pytest.raises(InputError, match=r"cannot keep .*: run the sweep, and ask"):
        best.limits_of(asked, sweep, QUIET)


def test_a_search_leaves_out_such_budgets_that_the_sweep_has():
    said = io.StringIO()
    file = made_up.sweep_file(budgets=[0.1, "kl=0.02", "joule=0.4"])
    sweep = spec.select(spec.from_mapping(file), "a")
    limits = best.limits_of((), sweep, Console(file=said, width=120))
    assert [budget.label for budget in limits] == ["+0.1 PPL", "KL ≤ 0.02 nat"]
    assert said.getvalue().splitlines() == [
        "0.4 J a token: left out, as --search looks by perplexity or KL",
        "KL is measured as with `distances: true`, for the budgets of it",
    ]
