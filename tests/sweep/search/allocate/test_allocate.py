"""`sweep allocate` on a tiny model that is really run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from methods import shares
from reports.results import read_table
from sweep.cli import app as cli
from sweep.errors import InputError, SweepError
from sweep.store.store import Store

GROUPS = ("input", "intermediate")


@pytest.fixture
def file(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> Path:
    """A sweep of a tiny model whose text and calibration text are files."""
    for i, name in enumerate(("reported", "calibrated")):
        (tmp_path / f"{name}.txt").write_text(tiny_text[1500 * i : 1500 * (i + 1)])
    path = tmp_path / "sweeps.yaml"
    path.write_text(
        f"""
defaults: {{text: {tmp_path}/reported.txt, calibration: {tmp_path}/calibrated.txt, windows: 2,
           window_tokens: 64, kv: {{tokens: 64}}}}
sweeps:
  tiny:
    models: [{tiny_llama}]
    methods: [dense]
    devices: [{{device: mine, dram_gb: 0.000032, flash_gbps: 0.001, dram_gbps: 60}}]
"""
    )
    return path


def sweep(*arguments: Any) -> str:
    """What a command prints."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def allocate(file: Path, out: Path, *more: Any) -> str:
    common = ("--file", file, "--out", out, "--workers", 0)
    return sweep("allocate", "tiny", *common, *more)


def content(out: Path, ending: str) -> dict[str, Any]:
    (path,) = out.glob(f"*{ending}")
    return json.loads(path.read_text())


def test_a_density_is_met_and_no_worse_than_equal_shares(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    printed = allocate(file, out, "--density", 0.5, "--rounds", 2)
    assert "allocated" in printed
    found = content(out, "density-0.5.json")
    rows = list(zip(*(found["shares"][group] for group in GROUPS), strict=True))
    assert np.mean([shares.density_of(GROUPS, row) for row in rows]) == pytest.approx(0.5, abs=2e-4)
    measured, first = found["how"]["measured"], found["how"]["first_round"]
    assert measured["kl"] <= first["kl"]
    assert measured["kl"] < found["how"]["uniform"]["kl"]
    curves = content(out, "sensitivities.json")
    assert curves["measured_at"] == [0.8, 0.6, 0.4, 0.2]
    assert np.array(curves["kl"]).shape == (2, 2, len(curves["shares"]))
    assert (np.diff(curves["kl"]) >= 0).all()


def test_limits_are_kept(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    allocate(file, out, "--missed-mb", 0.008, "--kl", 0.01)
    by_bytes = content(out, "-0.008mb.json")["how"]
    assert by_bytes["measured"]["missed_bytes_per_token"] <= 8000
    assert by_bytes["measured"]["missed_bytes_per_token"] > 7000
    by_kl = content(out, "-kl-0.01.json")["how"]
    assert 0.005 < by_kl["measured"]["kl"] <= 0.01


def test_shares_of_thresholds_at_a_cache(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    chosen = ("--selector", "resident-threshold", "--windows", 1)
    allocate(file, out, "--missed-mb", 0.008, *chosen)
    how = content(out, "-0.008mb.json")["how"]
    assert (how["selector"], how["gamma"]) == ("resident-threshold", 1)
    assert 6500 < how["measured"]["missed_bytes_per_token"] <= 8000


def test_nothing_is_measured_twice(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    allocate(file, out, "--density", 0.5)
    first, known = content(out, "density-0.5.json"), set(Store(out).records)
    allocate(file, out, "--density", 0.5)
    assert content(out, "density-0.5.json") == first
    assert set(Store(out).records) == known
    allocate(file, out, "--density", 0.6)
    more = set(Store(out).records) - known
    assert len(more) == 4  # the solution and equal shares, in two windows each


def test_a_sweep_takes_the_file(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    allocate(file, out, "--density", 0.6)
    (path,) = out.glob("*density-0.6.json")
    entry = f"sweeps.tiny.methods=[dense, {{method: dip-shares, shares: {path}, gamma: 0.2}}]"
    sweep("run", "tiny", "--file", file, "--set", entry, "--out", tmp_path / "used",
          "--workers", 0, "--no-report")  # fmt: skip
    rows = read_table(tmp_path / "used" / "results.parquet").to_pylist()
    (row,) = [row for row in rows if row["method"] == "dip-shares"]
    assert row["status"] == "done"
    assert row["density"] == pytest.approx(0.6, abs=2e-4)


def test_a_file_of_another_model_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    own = {"input": [0.5, 0.5], "intermediate": [0.5, 0.5]}
    path.write_text(json.dumps({"shares": own, "weights": "0" * 64, "model": "phi-3-mini"}))
    entry = f"sweeps.tiny.methods=[dense, {{method: dip-shares, shares: {path}}}]"
    with pytest.raises(InputError, match=r"other.json was found for the model phi-3-mini, not for"):
        sweep("plan", "tiny", "--file", file, "--set", entry)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "say what to meet: --density, --missed-mb or --kl"),
        (["--density", 1.5], "--density 1.5: a number above 0 and at most 1"),
        (["--kl", 0], "--kl 0: a number above 0"),
        (["--density", 0.5, "--method", "dip"], "method dip has no shares to allocate"),
        (["--density", 0.5, "--method", "dipp"], "unknown method 'dipp'"),
        (["--density", 0.5, "--share", 0.5], "--share: two shares between 0 and 1"),
        (["--density", 0.5, "--gamma", 0], "--selector, --gamma, --policy"),
        (["--density", 0.5, "--policy", "lfx"], "--selector, --gamma, --policy"),
        (["--density", 0.5, "--text", "reported.txt"], "is the text that is reported"),
    ],
)
def test_what_makes_no_sense_is_said(
    file: Path, tmp_path: Path, more: list[Any], message: str
) -> None:
    more = [tmp_path / one if one == "reported.txt" else one for one in more]
    with pytest.raises(SweepError, match=message):
        allocate(file, tmp_path / "run", *more)
