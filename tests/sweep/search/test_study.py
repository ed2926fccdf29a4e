"""Studies from the file to the report, on made-up evaluations: searched, stopped, reported."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from methods import allocation, layers
from reports.results import read_table
from simulator.cache_shares import WORDS
from sweep import api
from sweep.errors import InputError
from sweep.execution import session
from sweep.execution.session import StoppedError
from sweep.inputs import text_files
from sweep.search import study, tune
from sweep.search.tune import Tuned
from sweep.spec import file as spec
from tests.sweep import made_up

QUIET = Console(quiet=True)
SPEED = {
    "sweep": "a",
    "search": {"gamma": [0.05, 1.0], "density": [0.4, 0.95]},
    "objective": {"maximize": "tokens_per_s", "within": "5%"},
    "trials": 12,
    "sampler": "tpe",
}
SPLIT = {
    "sweep": "a",
    "method": {"method": "dip", "policies": "none"},
    "search": {"input": [0.2, 0.95], "intermediate": [0.1, 1.0]},
    "objective": {"minimize": ["mlp_density", "delta_ppl"]},
    "trials": 8,
    "fit": "allocation",
}


@pytest.fixture(autouse=True)
def _made_up_evaluations(monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)


def run(entry: dict[str, Any], out: Path, **sweep: Any) -> Tuned:
    options = api.Options(out, workers=0, report=False)
    return tune.tune(made_up.loaded(entry, **sweep), options, QUIET)


def trials(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def records(out: Path) -> list[dict[str, Any]]:
    lines = (out / "journal.jsonl").read_text().splitlines()
    return [json.loads(line)["record"] for line in lines]


def test_a_study_tells_what_mattered(tmp_path: Path):
    done = run(SPEED | {"trials": 16}, tmp_path)
    told = json.loads((tmp_path / "study.json").read_text())
    assert told["objective"] == {"tokens_per_s": "maximize"}
    assert told["searched"] == ["gamma", "density"]
    assert told["winners"] == {w.setting: [w.trial.ordinal] for w in done.winners}
    for shares in told["importance"].values():
        assert set(shares) == {"0"}
        assert set(shares["0"]) == {"gamma", "density"}
        assert sum(shares["0"].values()) == pytest.approx(1)


# -- searching -------------------------------------------------------------------------------------


def test_a_study_beats_the_points_it_began_with(tmp_path: Path):
    done = run(SPEED | {"trials": 20}, tmp_path)
    (winner,) = done.winners
    told = trials(tmp_path)
    first = [t for t in told[:2] if t["feasible"] == "True"]
    assert winner.tuned["tokens_per_s"] > max(float(t["tokens_per_s"]) for t in first)
    assert len(told) == 20
    assert [int(t["trial"]) for t in told] == list(range(20))
    assert winner.tuned["delta_ppl"] <= 0.05 * winner.tuned["ppl"]


def test_each_dram_size_has_a_search_of_its_own(tmp_path: Path):
    devices = [{"device": "apple-a18", "dram_gb": [0.06, 0.075], "flash_gbps": 1}]
    done = run(SPEED | {"devices": devices, "trials": 4}, tmp_path)
    assert len(done.trials) == 2
    assert {len(told) for told in done.trials.values()} == {4}
    assert {w.reported["dram_gb"] for w in done.winners} == {0.06, 0.075}


def test_clearly_worse_trials_stop_early(tmp_path: Path):
    run(SPEED, tmp_path / "a")
    run(SPEED | {"prune": False}, tmp_path / "b")
    stopped = [t for t in trials(tmp_path / "a") if t["state"] == "stopped"]
    assert len(stopped) >= 3
    assert {t["stopped"] for t in stopped} <= {"beyond the budget", "slower than the best"}
    assert all(0 < int(t["windows"]) < 8 for t in stopped)
    assert {t["state"] for t in trials(tmp_path / "b")} == {"done"}
    cost = [len(records(tmp_path / name)) for name in "ab"]
    assert cost[0] < 0.85 * cost[1]


def test_a_stopped_trial_is_not_better_than_the_winner(tmp_path: Path):
    """Each stopped trial, run whole, is beyond the budget or slower than what won."""
    done = run(SPEED, tmp_path)
    found = made_up.loaded(SPEED)
    (told,) = done.trials.values()
    stopped = [t.parameters for t in told if t.state == "stopped"]
    again = SPEED | {"enqueue": stopped, "trials": len(stopped), "prune": False}
    whole = run(again, tmp_path / "whole")
    best = done.winners[0].tuned["tokens_per_s"]
    (all_told,) = whole.trials.values()
    for trial in all_told:
        assert not trial.feasible or trial.values[0] <= best
    assert len(stopped) > 0
    assert found.trials == 12


def test_two_objectives_give_a_frontier(tmp_path: Path):
    goals = {"maximize": "tokens_per_s", "minimize": "delta_ppl"}
    done = run(SPEED | {"objective": goals, "sampler": "nsga2"}, tmp_path)
    found = [(w.tuned["tokens_per_s"], w.tuned["delta_ppl"]) for w in done.winners]
    assert len(found) > 2
    for speed, loss in found:
        assert not any(s > speed and d < loss for s, d in found)
    assert {t["state"] for t in trials(tmp_path)} == {"done"}


def test_grid_goes_through_all_combinations(tmp_path: Path):
    space = {"density": {"from": 0.6, "to": 0.8, "step": 0.1}, "allocation": ["paper", "uniform"]}
    run(SPEED | {"search": space, "sampler": "grid", "trials": 1}, tmp_path)
    found = [(t["density"], t["allocation"]) for t in trials(tmp_path)]
    assert found == [(d, a) for d in ("0.6", "0.7", "0.8") for a in ("paper", "uniform")]


def test_a_combination_that_is_no_point_is_a_trial_that_was_stopped(tmp_path: Path):
    space = {"method": ["dip", "glu"], "density": [0.4, 0.9]}
    run(SPEED | {"search": space, "sampler": "random", "prune": False, "trials": 16}, tmp_path)
    low = [t for t in trials(tmp_path) if t["method"] == "glu" and float(t["density"]) < 0.66]
    assert low
    assert {(t["state"], t["feasible"]) for t in low} == {("stopped", "False")}
    assert all("glu" in t["stopped"] for t in low)


def test_each_method_of_a_search_has_its_own_parameters_and_chunks(tmp_path: Path):
    space = {
        "method": ["dip", "dip-shares", "up"],
        "density": [0.5, 0.9],
        "allocation": ["paper", "uniform"],
        "shares": ["uniform", "0.5 0.8"],
        "chunk": {"from": 1, "to": 2, "step": 1},
    }
    entry = SPEED | {"search": space, "sampler": "random", "prune": False, "trials": 24}
    found = made_up.loaded(entry)
    setting = found.settings[0]
    given = {"density": 0.6, "allocation": "uniform", "shares": "0.5 0.8", "chunk": 2.0}
    dip = found.point(setting, given | {"method": "dip"})
    assert dict(dip.parameters) == {"allocation": "uniform"}
    assert dip.chunk == 2
    own = found.point(setting, given | {"method": "dip-shares"})
    assert dict(own.parameters)["shares"] == "0.5 0.8"
    assert found.point(setting, given | {"method": "up"}).parameters == ()


def test_shares_of_the_cache_are_searched_where_a_method_has_inputs():
    space = {"method": ["dip", "up"], "density": [0.5, 0.9], "cache_shares": [0, 1]}
    found = made_up.loaded(SPEED | {"search": space})
    setting = found.settings[0]
    assert all(first["cache_shares"] == 0.5 for first in found.complete_first())
    given = {"density": 0.6, "cache_shares": 0.2}
    dip = found.point(setting, given | {"method": "dip"})
    assert dip.cache_shares == (("input", 0.2), ("intermediate", 0.8))
    assert found.point(setting, given | {"method": "up"}).cache_shares == ()
    names = made_up.loaded(
        SPEED | {"search": {"density": [0.5, 0.9], "cache_shares": ["by-bytes", "equal"]}}
    )
    ways = [names.point(setting, {"density": 0.6, "cache_shares": n}).cache_shares for n in WORDS]
    assert ways == [(), (("input", 0.5), ("intermediate", 0.5))]


def test_shares_by_sensitivity_are_tried_first_where_they_are_searched():
    space = {
        "method": ["dip", "dip-shares"],
        "density": [0.5, 0.9],
        "gamma": [0.05, 1.0],
        "shares": ["uniform", "group-sensitivity"],
        "chunk": {"from": 1, "to": 2, "step": 1},
    }
    first = made_up.loaded(SPEED | {"search": space}).first
    assert [p["method"] for p in first] == ["dip", "dip", "dip-shares"]
    assert first[-1] == {"method": "dip-shares", "density": 0.9, "gamma": 0.2,
                         "shares": "group-sensitivity", "chunk": 1}  # fmt: skip


# -- resume ----------------------------------------------------------------------------------------


def interrupted(
    monkeypatch: pytest.MonkeyPatch, stops: set[int], again: Callable[[], Tuned]
) -> Tuned:
    """Run until it ends; before each of these calls of the driver a stop is asked for."""
    calls = iter(range(10_000))
    plain = session.Session.run_all

    def stopping(self: session.Session, plan: Any) -> None:
        if next(calls) in stops:
            raise StoppedError("stopped by SIGTERM")
        plain(self, plan)

    monkeypatch.setattr(session.Session, "run_all", stopping)
    while True:
        try:
            return again()
        except StoppedError:
            continue


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_interrupted_equals_uninterrupted(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    entry = SPEED | {"sampler": sampler}
    run(entry, tmp_path / "a")
    stops = {1, 2, 5, 9, 12}
    interrupted(monkeypatch, stops, lambda: run(entry, tmp_path / "b"))
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    tables = [read_table(tmp_path / name / "results.parquet") for name in "ab"]
    assert tables[0].equals(tables[1])
    keys = [sorted(r["key"] for r in records(tmp_path / name)) for name in "ab"]
    assert keys[0] == keys[1]  # and no task was run twice


def test_a_finished_study_runs_nothing_and_more_trials_go_on(tmp_path: Path):
    run(SPEED | {"trials": 8}, tmp_path)
    before, told = records(tmp_path), trials(tmp_path)
    assert run(SPEED | {"trials": 8}, tmp_path).ran == {}
    assert records(tmp_path) == before
    run(SPEED | {"trials": 12}, tmp_path)
    assert trials(tmp_path)[:8] == told
    assert len(trials(tmp_path)) == 12


def test_a_lost_journal_costs_no_evaluation(tmp_path: Path):
    run(SPEED, tmp_path)
    told = trials(tmp_path)
    (tmp_path / "study.journal").unlink()
    assert run(SPEED, tmp_path).ran == {}
    assert trials(tmp_path) == told


def test_another_search_is_another_study(tmp_path: Path):
    run(SPEED | {"trials": 4}, tmp_path)
    other = {"trials": 4, "known": False, "search": {**SPEED["search"], "gamma": [0.1, 1.0]}}
    done = run(SPEED | other, tmp_path)
    assert len(trials(tmp_path)) == 4
    assert all(len(told) == 4 for told in done.trials.values())


def test_a_trial_that_repeats_a_known_point_costs_nothing(tmp_path: Path):
    """The reported text's own sweep, run before, answers the winner's measurement too."""
    point = {"gamma": 0.2, "density": 0.8}
    entry = SPEED | {"enqueue": [point, point], "trials": 2}
    done = run(entry, tmp_path)
    evaluations = [r for r in records(tmp_path) if r["kind"] == "evaluate"]
    assert len(evaluations) == 4 * 8  # dip and dense, tuned and reported, 8 windows each
    (told,) = done.trials.values()
    assert told[0].values == told[1].values


# -- texts -----------------------------------------------------------------------------------------


def test_what_is_tuned_on_is_never_reported(tmp_path: Path):
    done = run(SPEED | {"trials": 4}, tmp_path)
    found = made_up.loaded(SPEED)
    assert found.tuning.text == "embedded-wiki-validation"
    assert text_files.fingerprint(found.tuning.text) != text_files.fingerprint(found.reported.text)
    table = read_table(tmp_path / "results.parquet")
    assert set(table["text"].to_pylist()) == {"embedded-wiki"}
    reported, tuned = done.winners[0].reported, done.winners[0].tuned
    assert reported["ppl"] != tuned["ppl"]
    told = {r["payload"]["text"] for r in records(tmp_path) if r["kind"] == "evaluate"}
    assert told == {
        text_files.fingerprint(t) for t in ("embedded-wiki", "embedded-wiki-validation")
    }
    assert "no trial has seen" in (tmp_path / "study.md").read_text()
    assert "tuned on embedded-wiki-validation" in (tmp_path / "provenance.json").read_text()


def test_the_report_compares_the_winner_with_dense_and_the_first_points(tmp_path: Path):
    done = run(SPEED | {"trials": 6}, tmp_path)
    rows = read_table(tmp_path / "results.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert {row["method"] for row in rows} == {"dense", "dip"}
    assert done.winners[0].reported["point_key"] in {row["point_key"] for row in rows}
    assert {row["sweep"] for row in rows} == {"s"}


@pytest.mark.parametrize(
    ("change", "sweep", "words"),
    [
        ({}, {"text": str(Path(__file__))}, "say which text to tune on"),
        ({"search": {"gamma": [0.1, 1]}}, {}, "'density' is neither searched nor fixed"),
        ({"search": {"input": [0.1, 0.9]}}, {}, "are searched together"),
        ({"fit": "allocation"}, {}, "is fitted to 'input' and 'intermediate'"),
        ({"sampler": "grid"}, {}, "sampler grid needs {from, to, step}"),
        ({"method": {"method": "dip", "policies": "belady"}}, {}, "needs policy lfu or lru"),
        ({"method": {"method": "dip", "allocation": ["paper", "uniform"]}}, {}, "one value"),
        ({"method": {"method": "glu"}, "search": {"density": [0.1, 0.5]}}, {}, "out of reach"),
    ],
)
def test_what_makes_no_study_is_said(change: dict[str, Any], sweep: dict[str, Any], words: str):
    with pytest.raises(InputError, match=r"^f: studies\.s") as caught:
        made_up.loaded(SPEED | change, **sweep)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"layers": ["low", "high"]}, "[low, high] of logits is expected"),
        ({"layers": [0.5, 2]}, "[0.5, 2] does not hold 0"),
        ({"layers": [-20, 2]}, "goes beyond 10"),
        ({"density": {"from": 0.5, "to": 0.9, "by": 0.1}}, "unknown key 'by' of a range"),
        ({"gamma": {"from": 0.5, "to": 0.1, "log": True}}, "low 0.5 is not below high 0.1"),
        ({"policy": [0.5, 0.9]}, "a list of names is expected for policy"),
        ({"chunk": [1, 4]}, "whole numbers are expected for chunk"),
        ({"cache_shares": [0, 2]}, "the share of a cache is a number from 0 to 1"),
        ({"cache_shares": ["equals"]}, "unknown way to share a cache 'equals'"),
    ],
)
def test_what_cannot_be_searched_is_said_with_its_place(search: dict[str, Any], words: str):
    with pytest.raises(InputError) as caught:
        made_up.loaded(SPEED | {"search": search})
    assert str(caught.value).startswith(f"f: studies.s.search.{next(iter(search))}: ")
    assert words in str(caught.value)


# -- densities by layer --------------------------------------------------------------------------

BY_LAYER = {
    "sweep": "a",
    "method": {"method": "dip", "density": 0.6},
    "search": {"layers": [-0.5, 0.5]},
    "objective": {"minimize": "delta_ppl"},
    "trials": 24,
    "sampler": "random",
}


def test_densities_by_layer_keep_the_mean_and_begin_uniform(tmp_path: Path):
    made = made_up.loaded(BY_LAYER)
    assert list(made.space)[:2] == ["layer_00", "layer_01"]
    assert len(made.space) == 30
    (setting,) = made.settings
    uniform = made.point(setting, dict.fromkeys(made.space, 0.0))
    assert "layers" not in dict(uniform.parameters)
    point = made.point(setting, {name: 0.01 * i for i, name in enumerate(made.space)})
    own = layers.parse(str(dict(point.parameters)["layers"]))
    assert sum(own) / 30 == pytest.approx(0.6, abs=1e-5)
    assert list(own) == sorted(own)
    assert made.first == [dict.fromkeys(made.space, 0.0)]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_better_split_over_layers_is_found(tmp_path: Path, sampler: str):
    done = run(BY_LAYER | {"sampler": sampler}, tmp_path)
    (told,) = done.trials.values()
    assert set(told[0].parameters.values()) == {0.0}
    (winner,) = done.winners
    assert winner.tuned["delta_ppl"] < told[0].notes["delta_ppl"]
    assert winner.reported["delta_ppl"] < told[0].notes["delta_ppl"]
    written = json.loads((tmp_path / "layers.json").read_text())
    assert written["layers"] == list(winner.layers)
    assert len(winner.layers) == 30
    page = (tmp_path / "study.md").read_text()
    assert "logits of 30 layers -0.5 to 0.5" in page
    assert "density by layer" in page
    assert "layer_00" not in page
    used = {"method": "dip", "density": 0.6, "layers": str(tmp_path / "layers.json")}
    sweep = spec.from_mapping(made_up.sweep_file(methods=[used])).sweeps["a"]
    (planned,) = api.plan_sweep(sweep).plan.points
    assert layers.parse(str(dict(planned.point.parameters)["layers"])) == winner.layers


def test_density_and_layers_are_searched_together():
    made = made_up.loaded(BY_LAYER | {"search": {"layers": [-1, 1], "density": [0.4, 0.9]}})
    (setting,) = made.settings
    logits = {name: (-1.0) ** i for i, name in enumerate(made.space) if name != "density"}
    for density in (0.4, 0.7, 0.9):
        point = made.point(setting, {**logits, "density": density})
        own = layers.parse(str(dict(point.parameters)["layers"]))
        assert sum(own) / 30 == pytest.approx(density, abs=1e-5)
        assert max(own) <= 1


def test_models_of_different_depth_share_no_search():
    with pytest.raises(InputError, match="equally many layers: smollm2-135m has 30, phi-3-mini"):
        made_up.loaded(BY_LAYER, models=["smollm2-135m", "phi-3-mini"])


def test_the_reported_text_under_another_name_is_refused(tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("the same words")
    with pytest.raises(InputError, match=r"b\.txt is the text that is reported"):
        made_up.loaded(SPEED | {"text": str(tmp_path / "b.txt")}, text=str(tmp_path / "a.txt"))


def test_an_unknown_study_has_a_near_name():
    file = spec.from_mapping(made_up.sweep_file() | {"studies": {"gamma": SPEED}}, "f")
    with pytest.raises(InputError, match="no study 'gama'; did you mean gamma"):
        study.load(file, "gama")


# -- appendix B.1 ----------------------------------------------------------------------------------


def test_densities_of_the_two_groups_are_a_density_and_an_allocation():
    found = made_up.loaded(SPLIT)
    point = found.point(found.settings[0], {"input": 0.6, "intermediate": 0.3})
    assert point.density == pytest.approx(0.5)
    line = allocation.parse(dict(point.parameters)["allocation"])
    assert line.input_density(point.density) == pytest.approx(0.6, abs=1e-9)


def test_the_first_points_of_appendix_b1_are_the_published_split():
    for given in made_up.loaded(SPLIT).first:
        density = (2 * given["input"] + given["intermediate"]) / 3
        assert given["input"] == pytest.approx(allocation.PAPER.input_density(density), abs=1e-3)
    assert len(made_up.loaded(SPLIT).first) == 6


def test_a_fit_can_be_used_as_allocation(tmp_path: Path):
    done = run(SPLIT, tmp_path)
    assert done.fit is not None
    path = tmp_path / "allocation.json"
    assert allocation.parse(str(path)) == done.fit.line
    entry = {"method": "dip", "density": 0.5, "allocation": str(path)}
    value = made_up.sweep_file(methods=["dense", entry])
    points = api.plan_sweep(spec.select(spec.from_mapping(value), "a")).grid.points
    assert dict(points[1].parameters)["allocation"] == str(done.fit.line)
    compared = {dict(w)["allocation"] for w in read_table(tmp_path / "results.parquet").to_pylist()}
    assert {"paper", "uniform", str(done.fit.line)} <= compared


def test_a_fit_finds_the_line_that_points_lie_on():
    line = allocation.Allocation(0.9, 0.25)
    points = [(d, line.input_density(d)) for d in (0.3, 0.5, 0.7, 0.9)]
    found = tune.fit_of(points)
    assert found.line.slope == pytest.approx(0.9)
    assert found.line.intercept == pytest.approx(0.25)
    assert found.r2 == pytest.approx(1.0)


# -- imports ---------------------------------------------------------------------------------------


def test_reading_a_study_needs_nothing_heavy():
    heavy = ("torch", "ray", "transformers", "optuna", "pandas")
    code = f"import sys, sweep.search.study; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


# -- the studies that ship -------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]


def test_gamma_a18_is_as_documented():
    found = study.load(spec.load(ROOT / "sweeps.yaml"), "gamma-a18")
    assert found.entry.objective.metrics == {"tokens_per_s": "maximize"}
    assert found.entry.objective.within == "5%"
    assert (found.trials, found.sampler) == (60, "gp")
    assert set(found.space) == {"gamma", "density"}
    assert len({setting.device.dram_gb for setting in found.settings}) == 2


def test_the_study_of_appendix_b1_searches_both_groups_for_two_objectives():
    found = study.load(spec.load(ROOT / "sweeps.yaml"), "allocation")
    assert set(found.space) == {"input", "intermediate"}
    assert found.entry.objective.metrics == {"mlp_density": "minimize", "delta_ppl": "minimize"}
    assert found.entry.fit == "allocation"


# -- a driver that is killed -----------------------------------------------------------------------

DRIVER = """
import json, sys
from pathlib import Path
import pytest
from rich.console import Console
from sweep import api
from sweep.search import study, tune
from sweep.spec import file as spec
from tests.sweep import made_up

made_up.install(pytest.MonkeyPatch())
value, out = json.loads(sys.argv[1]), Path(sys.argv[2])
found = study.load(spec.from_mapping(value, "f"), "s")
tune.tune(found, api.Options(out, workers=0, report=False), Console(quiet=True))
"""


@pytest.mark.slow
def test_ten_kills_of_the_driver_change_nothing(tmp_path: Path):
    """SIGKILL at ten moments of a study; the trials and the table are those of a whole run."""
    entry = SPEED | {"trials": 16}
    value = json.dumps(made_up.sweep_file() | {"studies": {"s": entry}})
    run(entry, tmp_path / "a")
    command = [sys.executable, "-c", DRIVER, value, str(tmp_path / "b")]
    journal, kills = tmp_path / "b" / "study.journal", 0
    while kills < 10:
        driver = subprocess.Popen(command, cwd=ROOT)
        size = journal.stat().st_size if journal.exists() else 0
        while driver.poll() is None:
            if journal.exists() and journal.stat().st_size > size + 700 * (kills % 4):
                driver.kill()
            time.sleep(0.003)
        if driver.returncode == 0:
            break
        assert driver.returncode == -9
        kills += 1
    subprocess.run(command, cwd=ROOT, check=True)
    assert kills >= 5
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    keys = [sorted(r["key"] for r in records(tmp_path / name)) for name in "ab"]
    assert keys[0] == keys[1]
