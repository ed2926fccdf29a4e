"""Searches on a tiny model that is really run: from the sweep file to the files of a run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import reports
from reports.results import read_table
from sweep.cli import app as cli
from sweep.errors import SweepError


@pytest.fixture
def file(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> Path:
    """A sweep and a study of a tiny model on three texts."""
    for i, name in enumerate(("reported", "tuned", "calibrated")):
        (tmp_path / f"{name}.txt").write_text(tiny_text[1500 * i : 1500 * (i + 1)])
    path = tmp_path / "sweeps.yaml"
    path.write_text(
        f"""
defaults: {{text: {tmp_path}/reported.txt, calibration: {tmp_path}/calibrated.txt, windows: 3,
           window_tokens: 64, kv: {{tokens: 64}}}}
sweeps:
  tiny:
    models: [{tiny_llama}]
    methods: [dense, {{method: dip, density: [0.3, 0.5, 0.7, 0.9], gamma: [0.2, 1.0]}}]
    devices: [{{device: mine, dram_gb: 0.000032, flash_gbps: 0.001, dram_gbps: 60}}]
studies:
  fast:
    sweep: tiny
    text: {tmp_path}/tuned.txt
    search: {{gamma: [0.05, 1.0], density: [0.3, 0.95]}}
    objective: {{maximize: tokens_per_s, within: 20%}}
    trials: 4
  joint:
    sweep: tiny
    text: {tmp_path}/tuned.txt
    search:
      method: [dip, dip-shares]
      selector: [topk, resident-threshold]
      shares: [uniform, {tmp_path}/allocation/{tiny_llama.name}-3.2e-05gb-sensitivities.json]
      gamma: [0.05, 1.0]
      density: [0.3, 0.95]
      quant: [rtn]
      bits: {{from: 3, to: 4, step: 1}}
    objective: {{maximize: tokens_per_s, within: 20%}}
    sampler: gp
    trials: 10
"""
    )
    return path


def sweep(*arguments: Any) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if isinstance(done.exception, SweepError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_tune_measures_its_winner_and_writes_a_report(file: Path, tmp_path: Path):
    out = tmp_path / "run"
    printed = sweep("tune", "fast", "--file", file, "--out", out, "--workers", 0)
    assert "# Study fast" in printed
    names = {path.name for path in out.iterdir()}
    expected = {"study.md", "trials.csv", "study.journal", "report.html", "results.parquet"}
    assert expected <= names
    rows = read_table(out / "results.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert all(row["text"].endswith("reported.txt") for row in rows)


def test_everything_is_searched_at_once(file: Path, tmp_path: Path):
    common = ("--file", file, "--workers", 0)
    shares = ("--density", 0.5, "--share", 0.8, "--share", 0.4, "--selector", "resident-threshold")
    sweep("allocate", "tiny", *common, "--out", tmp_path / "allocation", *shares)
    out = tmp_path / "run"
    printed = sweep("tune", "joint", *common, "--out", out)
    assert "# Study joint" in printed
    with (out / "trials.csv").open() as trials:
        told = list(csv.DictReader(trials))
    assert len(told) == 10
    assert {t["bits"] for t in told} <= {"3.0", "4.0"}
    informed = next(t for t in told if t["shares"].endswith(".json"))
    assert informed["selector"] == "resident-threshold"
    rows = read_table(out / "results.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    before = (out / "trials.csv").read_bytes()
    sweep("tune", "joint", *common, "--out", out)
    assert (out / "trials.csv").read_bytes() == before


def test_best_search_agrees_with_the_grid(file: Path, tmp_path: Path):
    out = tmp_path / "run"
    common = ("--file", file, "--out", out, "--workers", 0)
    printed = sweep("best", "tiny", "--search", "-b", "30%", *common)
    assert "best" in printed
    assert "for the grid" in " ".join(printed.split())
    sweep("run", "tiny", *common, "--no-report")
    (decision,) = reports.decide(read_table(out / "results.parquet"), ["30%"])
    assert decision.best is not None
    assert f"{decision.best.tokens_per_s:.4g}" in printed


def test_a_joint_search_agrees_with_the_grid_within_perplexity_and_kl(file: Path, tmp_path: Path):
    out = tmp_path / "run"
    common = ("--file", file, "--out", out, "--workers", 0)
    budgets = ("30%", "kl=0.5")
    within = [text for budget in budgets for text in ("--within", budget)]
    printed = sweep("best", "tiny", "--search", "--joint", *within, *common)
    told = " ".join(printed.split())
    assert "for the grid" in told
    assert "trials, " in told
    sweep("run", "tiny", *common, "--no-report", "--set", "sweeps.tiny.distances=true")
    for decision in reports.decide(read_table(out / "results.parquet"), budgets):
        assert decision.best is not None
        assert f"{decision.best.tokens_per_s:.4g}" in printed
    assert (out / "joint-trials.csv").exists()
