"""Searching in place of a grid: paired differences, brackets, and the answer of the whole grid."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import reports
from sweep import api
from sweep.search import best
from sweep.search.brackets import Bracket, bracket, crossing_density, next_place
from sweep.search.early_stop import (
    Noise,
    differences,
    interval,
    limit_of_mean,
    rungs,
    student_t,
    verdict,
)
from sweep.spec import file as spec
from sweep.spec.entries import Sweep
from tests.sweep import made_up

QUIET = Console(quiet=True)


# -- paired differences ----------------------------------------------------------------------------


def test_a_budget_is_a_bound_on_the_mean_difference():
    rng = np.random.default_rng(0)
    dense, more = rng.normal(2.7, 0.3, 12), rng.normal(0.05, 0.01, 12)
    delta = np.exp((dense + more).mean()) - np.exp(dense.mean())
    found = differences(list(100 * (dense + more)), list(100 * dense), [100.0] * 12)
    assert found == pytest.approx(more)
    at_limit = limit_of_mean(float(delta), float(np.exp(dense.mean())))
    assert at_limit == pytest.approx(found.mean())


def test_all_windows_leave_no_doubt():
    found = np.array([0.1, 0.3])
    assert interval(found, 2, 0.1, Noise(1.0, 1)) == pytest.approx((0.2, 0.2))


def test_nothing_is_clear_before_the_noise_is_known():
    assert verdict(*interval(np.array([5.0]), 8, 0.1, Noise()), 0.1) == "open"


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 1, "inside"), (2, 3, "outside"), (0, 2, "open")]
)
def test_verdicts(low: float, high: float, found: str):
    assert verdict(low, high, 1.0) == found


def test_intervals_hold_the_mean_of_all_windows():
    """99 % of them, over many texts of 16 windows, after 2, 4 and 8 of these."""
    rng = np.random.default_rng(1)
    noise, missed, trials = Noise(), 0, 600
    for _ in range(trials):
        size = rng.uniform(0.02, 0.5)
        windows = size * (1 + 0.2 * rng.normal(size=16))
        count = int(rng.choice([2, 4, 8]))
        noise.add(windows[:count], 0.01)
        low, high = interval(windows[:count], 16, 0.01, noise)
        missed += not low <= windows.mean() <= high
    assert missed <= 0.02 * trials


def test_students_t():
    assert student_t(0) == float("inf")
    assert student_t(1) == 63.66
    assert student_t(15) == 2.977
    assert student_t(10_000) == 2.617
    values = [student_t(n) for n in range(1, 200)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("count", "steps"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_rungs(count: int, steps: list[int]):
    assert rungs(count) == steps


# -- brackets --------------------------------------------------------------------------------------


def test_a_bracket_encloses_the_first_density_inside():
    assert bracket({}, 5) == Bracket(-1, 5)
    assert bracket({0: "outside", 3: "inside", 2: "open"}, 5) == Bracket(0, 3)
    assert bracket({1: "inside", 2: "outside"}, 5) == Bracket(-1, 1)
    assert bracket({3: "outside", 4: "inside"}, 5).closed


@pytest.mark.parametrize("answer", range(21))
def test_halving_finds_any_place_in_few_tries(answer: int):
    """Of 20 densities, with a curve that says nothing: 5 tries."""
    densities = [0.5 + 0.02 * i for i in range(20)]
    found, verdicts = Bracket(-1, 20), {}
    for tries in range(20):
        if found.closed:
            break
        place = next_place(found, densities, 0.1, {}, {}, tries)
        assert found.outside < place < found.inside
        verdicts[place] = "inside" if place >= answer else "outside"
        found = bracket(verdicts, 20)
    assert found.inside == answer
    assert len(verdicts) <= 5


def test_a_curve_says_where_the_limit_is():
    curve = {d: float(np.exp(1 - 6 * d)) for d in (0.5, 0.8)}
    assert crossing_density(float(np.exp(1 - 6 * 0.7)), curve, {}) == pytest.approx(0.7)
    alone = {0.6: float(np.exp(0.5 - 6 * 0.6))}
    assert crossing_density(float(np.exp(0.5 - 6 * 0.7)), alone, curve) == pytest.approx(0.7)
    assert crossing_density(0.1, alone, {}) is None
    assert crossing_density(0.1, {0.5: 0.1, 0.6: 0.2}, {}) is None


# -- against the grid ------------------------------------------------------------------------------


def made(tmp_path: Path, **changes: Any) -> Sweep:
    return spec.select(spec.from_mapping(made_up.sweep_file(**changes)), "a")


FINE_DENSITIES = {"from": 0.5, "to": 0.95, "step": 0.025}
FINE = {
    "methods": [
        "dense",
        {
            "method": "dip",
            "density": {"from": 0.4, "to": 0.98, "step": 0.02},
            "gamma": [0.2, 0.5, 1],
        },
        {"method": "up", "density": {"from": 0.5, "to": 0.98, "step": 0.02}},
    ],
    "devices": [{"device": "apple-a18", "dram_gb": [0.06, 0.07], "flash_gbps": [0.5, 1]}],
    "policies": ["lfu", "belady"],
}


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_the_answer_is_that_of_the_grid(
    noise: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Same throughput within 2 %, for at most a fifth of the tokens."""
    made_up.install(monkeypatch, noise)
    sweep = made(tmp_path, **FINE)
    found = best.search(sweep, options(tmp_path / "search"), QUIET, ["5%"])
    table = api.run(sweep, options(tmp_path / "grid"), QUIET).table
    expected = {
        (d.setting.dram_gb, d.setting.flash_gbps): d.best.tokens_per_s
        for d in reports.decide(table, ["5%"])
        if d.best
    }
    answers = {
        (f.series.point.device.dram_gb, f.series.point.device.flash_gbps): f.row["tokens_per_s"]
        for f in found.best
    }
    assert answers == pytest.approx(expected, rel=0.02)
    assert len(answers) == 4
    assert all(f.whole and f.row["windows"] == 8 for f in found.best)
    assert found.cost.share <= 0.2


def test_every_series_has_an_answer_for_every_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made_up.install(monkeypatch)
    found = best.search(made(tmp_path, **FINE), options(tmp_path), QUIET, ["1%", "10%"])
    series = 2 * 2 * 4  # DRAM, Flash, three γ of dip and up; belady is no series
    assert len(found.found) == series * 2
    # Where nothing of `up` is cached it has no policy.
    assert {f.series.point.policy for f in found.found} == {"lfu", "none"}
    assert found.left_out > 0
    for tight, loose in zip(found.found[::2], found.found[1::2], strict=True):
        assert tight.planned is None or loose.planned is not None
        if tight.planned and loose.planned:
            assert loose.planned.point.density <= tight.planned.point.density


def test_what_is_known_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)
    first = best.search(made(tmp_path), options(tmp_path), QUIET, ["5%"])
    again = best.search(made(tmp_path), options(tmp_path), QUIET, ["5%"])
    assert first.cost.run_now == first.cost.tokens > 0
    assert again.cost.run_now == 0
    assert again.cost.tokens == first.cost.tokens
    assert [f.row for f in again.found] == [f.row for f in first.found]


def test_the_grid_finds_what_the_search_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)
    cost = best.search(made(tmp_path), options(tmp_path), QUIET, ["5%"]).cost
    grid = api.run(made(tmp_path), options(tmp_path), QUIET)
    left = cost.grid_evaluations - cost.evaluations
    assert grid.ran == 2 * left  # an evaluation and its simulation; none twice
    assert cost.evaluations > 0


def test_screening_looks_in_one_format_and_reports_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made_up.install(monkeypatch)
    plain = best.search(made(tmp_path), options(tmp_path / "a"), QUIET, ["5%"])
    found = best.search(made(tmp_path), options(tmp_path / "b"), QUIET, ["5%"], "bfloat16")
    (winner,), (expected,) = found.best, plain.best
    assert winner.row["dtype"] == "float32"
    assert winner.row["tokens_per_s"] == expected.row["tokens_per_s"]
    journal = (tmp_path / "b" / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line)["record"] for line in journal]
    kinds = [r["payload"]["dtype"] for r in records if r["kind"] == "evaluate"]
    assert kinds.count("float32") == 16  # the winner and the dense run, on 8 windows
    assert kinds.count("bfloat16") > 8


def test_no_density_within_a_budget_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)
    found = best.search(made(tmp_path), options(tmp_path), QUIET, ["0.0001"])
    assert found.best == []
    assert [f.planned for f in found.found] == [None]
    written = json.loads((tmp_path / "search.json").read_text())
    assert written["found"][0]["density"] is None


def test_dense_is_a_row_and_wins_where_nothing_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Within a budget that no density meets dense is the answer, first and in the table."""
    made_up.install(monkeypatch)
    sweep = made(tmp_path)
    found = best.search(sweep, options(tmp_path), QUIET, ["0.0001", "10%"])
    (setting, row) = next(iter(found.dense.items()))
    assert [(s, b.label) for s, b in found.dense_wins] == [(setting, "+0.0001 PPL")]
    (winner,) = found.best
    assert winner.row["tokens_per_s"] > row["tokens_per_s"] == winner.row["tokens_per_s_dense"]
    written = json.loads((tmp_path / "search.json").read_text())
    assert written["dense"][0]["tokens_per_s"] == row["tokens_per_s"]
    assert written["dense_wins"] == [{"setting": setting, "budget": "+0.0001 PPL"}]
    page = io.StringIO()
    Console(file=page, width=200).print(best.tables(found))
    lines = page.getvalue().splitlines()
    assert lines[0] == f"Ship dense: nothing within +0.0001 PPL is faster ({setting})."
    dense = [line for line in lines if " dense " in line and "Ship" not in line]
    assert ["best" in line for line in dense] == [True, False]


def options(out: Path) -> api.Options:
    return api.Options(out, workers=0, report=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_a_real_model_the_answer_is_that_of_the_grid(tmp_path: Path):
    """DIP on SmolLM2 at three γ and two Flash speeds: within 2 %, for a fifth of the tokens."""
    methods = ["dense", {"method": "dip", "density": FINE_DENSITIES, "gamma": [0.2, 0.5, 1]}]
    devices = [{"device": "apple-a18", "dram_gb": 0.064, "flash_gbps": [0.5, 1]}]
    sweep = made(tmp_path, methods=methods, devices=devices, window_tokens=256)
    found = best.search(sweep, options(tmp_path / "search"), QUIET, ["5%"])
    grid = api.Options(tmp_path / "grid", tmp_path / "search", workers=0, report=False)
    decided = reports.decide(api.run(sweep, grid, QUIET).table, ["5%"])
    expected = {d.setting.flash_gbps: d.best.tokens_per_s for d in decided if d.best}
    answers = {f.series.point.device.flash_gbps: f.row["tokens_per_s"] for f in found.best}
    assert answers == pytest.approx(expected, rel=0.02)
    assert found.cost.share <= 0.2
