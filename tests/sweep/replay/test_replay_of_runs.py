"""`sweep replay`: the reads of a run's points, done on a disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from reports.reading import stopwatch
from reports.results import read_table, rows
from simulator import ReadCost
from simulator.read_plans import reads
from sweep.cli.app import app
from sweep.errors import InputError, ResourceError
from sweep.probe import image as images
from sweep.replay import measure, points, predict
from tests.sweep import tinysweep

METHODS = ("dense", {"method": "dip", "density": 0.5, "gamma": [1, 0.3]})
DEVICE = {"device": "apple-a18", "dram_gb": 0.000224, "latency_us": 0.2}


@pytest.fixture(scope="module")
def run(tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    sweep = tinysweep.sweep_of(
        tiny_llama, folder, tiny_text, *METHODS, devices=[DEVICE], keep_traces=True, windows=1
    )
    tinysweep.run(sweep, folder / "out")
    return folder / "out"


def _direct(folder: Path) -> None:
    with images.image(folder, 1 << 20) as made:
        if made.direct is None:
            pytest.skip(f"direct I/O is refused here: {made.refused}")


def test_planned_reads_are_those_of_the_simulator(run: Path) -> None:
    chosen = points.replayable(run, (), 8)
    assert [point.tokens for point in chosen] == [8, 8]
    cost = ReadCost(latency_us=1, gbps=0.2)
    for point in chosen:
        wanted = measure._plan(point, 1, 200)
        counts = [reads(p.missed, p.unit_bytes, cost) for p in point.phases]
        assert wanted.reads_per_token * 8 == sum(int(count.sum()) for count, _, _ in counts)
        assert wanted.lengths.sum() == sum(int(size.sum()) for _, size, _ in counts)
        law = predict.Models(0.2, cost, cost, 0.0)
        seconds = sum(float(time.sum()) for _, _, time in counts)
        assert law.seconds(wanted.lengths)["affine"] == pytest.approx(seconds)


def test_points_by_key_and_their_faults(run: Path) -> None:
    first = points.replayable(run, (), 4)[0]
    (same,) = points.replayable(run, (first.key[:8],), 4)
    assert same.key == first.key
    with pytest.raises(InputError, match="'zz' is no point's key"):
        points.replayable(run, ("zz",), 4)
    with pytest.raises(InputError, match="--tokens 0"):
        points.replayable(run, (), 0)


def test_a_run_without_masks_says_so(run: Path, tmp_path: Path) -> None:
    for name in ("results.parquet", "journal.jsonl"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    with pytest.raises(InputError, match="no masks are kept"):
        points.replayable(tmp_path, (), 4)


def test_the_command_prints_and_keeps_figures(run: Path, tmp_path: Path) -> None:
    _direct(tmp_path)
    out = tmp_path / "replay.json"
    asked = ["replay", str(run), "--folder", str(tmp_path), "--tokens", "2", "--depth", "2"]
    result = CliRunner().invoke(app, [*asked, "--repeats", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert len(figures["lines"]) == 2
    for line in figures["lines"]:
        assert line["measured_s"] > 0
        assert line["paper_s"] <= line["curve_s"] * 1.001
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replay.json"]


def test_the_command_puts_its_figures_into_the_rows_of_the_run(run: Path, tmp_path: Path) -> None:
    _direct(tmp_path)
    copy = shutil.copytree(run, tmp_path / "copy")
    asked = ["replay", str(copy), "--folder", str(tmp_path), "--tokens", "2", "--depth", "2"]
    result = CliRunner().invoke(app, [*asked, "--repeats", "1"])
    assert result.exit_code == 0, result.output
    replays, verdict = stopwatch.read(copy)
    of_rows = {row["point_key"]: row for row in rows(read_table(copy / "results.parquet"))}
    for one in replays:
        row = of_rows[one.point_key]
        assert row["predicted_tokens_per_s_curve"] == pytest.approx(1e3 / one.predicted["curve"])
        if one.reason or verdict.startswith(stopwatch.NOT_MEASURABLE):
            assert row["measured_tokens_per_s"] is None
        else:
            assert row["measured_tokens_per_s"] == pytest.approx(1e3 / one.measured)
    assert read_table(run / "results.parquet").column_names == [
        name
        for name in read_table(copy / "results.parquet").column_names
        if not name.startswith(("measured_", "predicted_"))
    ]


def test_the_command_multiplies_too(run: Path, tmp_path: Path) -> None:
    _direct(tmp_path)
    out = tmp_path / "replay.json"
    asked = ["replay", str(run), "--folder", str(tmp_path), "--tokens", "2", "--depth", "2"]
    asked += ["--multiply", "--repeats", "1", "--out", str(out)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "products alone" in result.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    for line in figures["lines"]:
        one = line["products"]
        assert one["measured_s"] > 0
        assert one["computing_s"] > 0
        assert one["predicted_s"] >= line["curve_s"] - 1e-12
        assert one["used_bytes_per_token"] > 0
    replays, verdict = stopwatch.read(tmp_path)
    assert verdict == figures["verdict"]
    valid = [line["products"]["valid"] for line in figures["lines"]]
    assert [one.products is not None for one in replays] == valid


def test_the_verdict_names_the_error_with_products() -> None:
    products = measure.Products(1.0, 0.5, 1.2, 1.0, 0.9, 1.1, True)
    line = measure.Line("k", "p", 1, 1, 1, 0, 0.5, 0.8, 0.9, 1.0, 1.0, 1.0, True, "", products)
    outcome = measure.Outcome(1, (line,), 0.1, False, 1, 1, (), "ext4")
    assert outcome.verdict.endswith(
        "With products, the longer of the curve and of compute is off by 20% in the median, 20% "
        "at worst."
    )


def test_noise_is_no_measurement() -> None:
    calm = predict.models([{4096: 1e-5, 65536: 4e-5}, {4096: 1.1e-5, 65536: 4.1e-5}])
    wild = predict.models([{4096: 1e-5, 65536: 4e-5}, {4096: 2e-5, 65536: 9e-5}])
    assert (calm.noisy, wild.noisy) == (False, True)
    assert calm.curve(4096) == pytest.approx(1.05e-5)
    line = measure.Line("k", "p", 1, 1, 1, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, True, "")
    noisy = measure.Outcome(1, (line,), wild.spread, True, 1, 1, (), "ext4")
    assert noisy.verdict.startswith("Not measurable here: probes of one size differ by")


def test_threads_that_wait_are_no_measurement() -> None:
    line = measure.Line("k", "p", 1, 1, 1, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, True, "")
    outcome = measure.Outcome(1, (line,), 0.1, False, 1, 1, (), "ext4")
    assert outcome.verdict == (
        "Not measurable here: threads wait for each other for 60% of the time."
    )


def test_the_verdict_names_both_errors() -> None:
    line = measure.Line("k", "p", 1, 1, 1, 0, 0.5, 0.8, 0.9, 1.0, 1.0, 1.0, True, "")
    outcome = measure.Outcome(1, (line,), 0.1, False, 1, 1, (), "ext4")
    assert outcome.verdict == (
        "The curve is off by 10% in the median, 10% at worst; "
        "bytes over bandwidth is off by 50% in the median, 50% at worst."
    )


def test_a_disk_that_reads_all_sizes_as_fast_makes_no_curve() -> None:
    with pytest.raises(ResourceError, match="no curve"):
        predict.models([{4096: 1e-5, 8192: 1e-5}])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--depth", "0"], "--depth 0"),
        (["--folder", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_error(run: Path, options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["replay", str(run), *options])
    assert result.exit_code != 0
    assert said in str(result.exception)
    assert not np.any([path.name.startswith(".sweep") for path in run.iterdir()])
