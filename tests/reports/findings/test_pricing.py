"""One formula in three places: here, in the simulator and in the page's own script."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.findings.pricing import parse, speed_in
from reports.pages.page_counts import counts_document, packed
from reports.pages.page_data import results_document
from reports.reading.run import Run, load
from tests.reports import counted, synthetic

NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")
SIX_DIGITS = 1e-6
Device = tuple[int, float, float, str]
"""A point, Flash and DRAM in GB/s, and the timing."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load(synthetic.run_folder(tmp_path_factory.mktemp("runs") / "r", counted.table()))


@pytest.fixture(scope="module")
def devices(run: Run) -> list[Device]:
    rng = np.random.default_rng(3)
    chosen = rng.integers(0, len(run.points), 300).tolist()
    speeds = (10 ** rng.uniform(-2, 2, (300, 2))).tolist()
    timings = rng.choice(["overlap", "serial"], 300).tolist()
    return [(i, *pair, timing) for i, pair, timing in zip(chosen, speeds, timings, strict=True)]


def ours(run: Run, device: Device) -> float:
    i, flash, dram, timing = device
    moved = replace(run.points[i].setting, flash_gbps=flash, dram_gbps=dram, timing=timing)
    return speed_in(moved, parse(run.reads[i]) or (), run.rows[i]["static_bytes"])


def test_the_formula_is_that_of_the_simulator(run: Run, devices: list[Device]) -> None:
    traces = {name: counted.traced(name) for name in counted.METHODS}
    for device in devices:
        i, flash, dram, timing = device
        point, gb = run.points[i], run.points[i].setting.dram_gb
        phases = {} if point.dense else traces[point.method].phases(point.policy, gb)
        truth = counted.price(phases, gb, flash, dram, timing).tokens_per_s
        assert ours(run, device) == pytest.approx(truth, rel=SIX_DIGITS)


@NEEDS_NODE
def test_the_formula_is_that_of_the_page(run: Run, devices: list[Device], tmp_path: Path) -> None:
    asked = [
        [i, {"flash": flash * 1e9, "dram": dram * 1e9, "timing": timing, **_size(run, i)}]
        for i, flash, dram, timing in devices
    ]
    speeds = _in_node(run, asked, tmp_path)
    assert speeds == pytest.approx([ours(run, device) for device in devices], rel=SIX_DIGITS)


def _size(run: Run, i: int) -> dict[str, float]:
    gb = run.points[i].setting.dram_gb
    return {"gb": gb, "size": gb * 1e9}


def _in_node(run: Run, asked: list[Any], folder: Path) -> list[float]:
    """The page's own script without a browser: what it says of points on devices."""
    texts = {
        "data": json.dumps(results_document(run)),
        "counts": packed(counts_document(run)),
    }
    templates = files("reports") / "templates"
    own = [(templates / name).read_text(encoding="utf-8") for name in ("data.js", "price.js")]
    script = folder / "price.js"
    script.write_text(
        f"const texts = {json.dumps(texts)};\n"
        "globalThis.document = { getElementById: (name) => ({ textContent: texts[name] }) };\n"
        + "\n".join(own)
        + f"\nloadCounts().then(() => console.log(JSON.stringify({json.dumps(asked)}.map("
        "([i, device]) => priced(i, device).tokens_per_s))));\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["node", str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
