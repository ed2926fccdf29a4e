"""`sweep report --paper`: what the command hands to the generators, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reports.paper.published import published
from reports.paper.source import PaperRun, read_run
from sweep import api
from sweep.results import paper
from tests.sweep.cli.test_app import Call, call  # noqa: F401  (a fixture)
from tests.sweep.tinysweep import sweep_of


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of GLU pruning with thresholds and with top-k."""
    place = tmp_path_factory.mktemp("tiny")
    entries: list[Any] = [
        "dense",
        {"method": "glu-oracle", "density": 0.5, "selector": ["layer-threshold", "topk"]},
    ]
    sweep = sweep_of(tiny_llama, place, tiny_text, *entries)
    api.run(sweep, api.Options(place / "run", workers=0, report=False), Console(file=io.StringIO()))
    return place / "run"


def run_of(folder: Path) -> PaperRun:
    return read_run(folder)


def test_spreads_are_those_of_the_masks(folder: Path) -> None:
    table = {p.selector: p for p in run_of(folder).run.points}
    reads = run_of(folder).reads[table["layer-threshold"].point_key]["neuron"]
    tokens = run_of(folder).rows[table["layer-threshold"].point_key]["tokens"]
    used, least, most, squares = (
        np.array(reads[f"used_{name}by_layer"]) for name in ("", "least_", "most_", "squares_")
    )
    mean = used / tokens
    assert (least <= mean).all()
    assert (mean <= most).all()
    assert (squares / tokens >= mean**2 - 1e-9).all()
    assert (least < most).any()
    assert not any("least" in name for name in run_of(folder).reads[table["topk"].point_key])


def test_counted_activations_are_those_of_the_calibration(folder: Path) -> None:
    (counted,) = paper.magnitudes(run_of(folder)).values()
    assert len(counted.counts) == 2
    totals = [sum(layer) for layer in counted.counts]
    assert totals[0] == totals[1] > 0
    assert totals[0] % 96 == 0  # tokens times units
    assert list(counted.low[1:]) >= list(counted.high[:-1])
    assert min(counted.low) >= 0


def test_exhibits_of_a_run(folder: Path, tmp_path: Path) -> None:
    names = ["figure3", "figure4", "figure10", "table1"]
    summary = tmp_path / "docs" / "page.md"
    summary.parent.mkdir()
    files = paper.exhibits([folder], names, None, summary)
    assert files[-1] == summary
    assert {f.name for f in files} >= {"figure3.svg", "figure4.pdf", "figure10.csv", "table1.tex"}
    text = summary.read_text(encoding="utf-8")
    for name in ("figure3", "figure4", "figure10"):
        assert f"](images/page/{name}.svg)" in text
        copied = tmp_path / "docs" / "images" / "page" / f"{name}.svg"
        assert copied.read_bytes() == (folder / "paper" / f"{name}.svg").read_bytes()
    assert text.count(str(folder.parent)) == text.count(str(folder.parent / "reported.txt"))


def test_what_follows_from_geometry_is_in_the_printed_tables() -> None:
    cells = {
        (p.exhibit, p.model, *row, p.dram_gb or 0.0, p.flash_gbps or 0.0)
        for p in published()
        for row in [["size_gb"] if p.metric == "size_gb" else [p.method]]
    }
    found = {key for key in paper.computed() if key[0].startswith("table")}
    assert len(found) == 21
    assert found <= cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paper", "tabel2"), "did you mean table2"),
        (("--summary", "page.md"), "--summary go with --paper"),
        (("--format", "odf"), "unknown format 'odf'; did you mean pdf"),
    ],
)
def test_what_cannot_be_reported(
    call: Call,  # noqa: F811
    folder: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    called = call("report", folder, *arguments)
    assert called.code == 2
    assert message in called.err
    assert "Traceback" not in called.err


def test_the_command_writes_into_the_run(call: Call, folder: Path) -> None:  # noqa: F811
    called = call("report", folder, "--paper", "table6")
    assert called.code == 0
    assert (folder / "paper" / "table6.md").read_text().count("‡ (") == 8
    assert call("report", folder, "--format", "json").code == 0
    assert json.loads((folder / "report.json").read_text())["schema_version"] == 1
