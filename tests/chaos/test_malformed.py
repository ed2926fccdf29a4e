"""300 spoiled sweep files: refused with one clear message, or planned; never anything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.conftest import Report
from tests.chaos.inside import Run
from tests.chaos.malformed import spoiled
from tests.chaos.page import Fault
from tests.e2e.runs import ROOT

SEED = 300

SMALL = """\
defaults: {windows: 1, window_tokens: 64, seed: 3}
sweeps:
  one:
    models: [smollm2-135m]
    methods:
      - dense
      - {method: [glu, up], density: [0.7, 0.9]}
      - {method: dip, density: {from: 0.5, to: 0.9, step: 0.1}, allocation: [paper, uniform]}
      - {method: dip, density: 0.6, gamma: [0.2, 0.5], policies: [lfu]}
    devices:
      - {device: apple-a18, dram_gb: [0.06, 0.075], flash_gbps: [0.5, 1]}
    policies: [lru, belady]
    cache: {start: empty, scope: window}
    budgets: [0.1, 5%]
    exclude: [{method: up, density: 0.7}]
"""

OTHER = """\
sweeps:
  one: &base
    models: [phi-3-medium]
    quant: [{method: none, bits: 4}]
    methods: [{method: cats, density: [0.5, 0.7]}]
    devices: [{device: apple-a18, dram_gb: 4}]
    policies: [lfu]
    windows: 2
    timing: overlap
  two:
    <<: *base
    kv: {tokens: 32, bits: 8}
    resources: {evaluate: {cpu: 1}, simulate: {cpu: 1}}
    keep_traces: true
"""


def check(run: Run, how: str, file: Path) -> int:
    """Refused with a message that names the file, or valid and planned; nothing is left behind."""
    code, out, err = run("validate", str(file))
    assert code in (0, 2), f"{how}: exit {code}"
    if code == 0:
        name = out.split(":", 1)[0].strip()
        code, out, err = run("plan", name, "--file", str(file)) if name else (0, out, err)
        assert code in (0, 2), f"{how}: plan ends with {code}: {err}"
    if code == 2:
        assert str(file) in err, f"{how}: {err!r} does not name the file"
        assert len(err) < 20_000, f"{how}: the message has {len(err)} characters"
    assert "Traceback" not in out + err, how
    assert os.listdir(file.parent) == [file.name], how
    return code


@pytest.mark.parametrize("text", [SMALL, OTHER], ids=["small", "other"])
def test_they_were_good(run: Run, text: str, tmp_path: Path) -> None:
    file = tmp_path / "sweeps.yaml"
    file.write_text(text, encoding="utf-8")
    assert check(run, "good", file) == 0


PARTS = [
    (0, 52),
    *(pytest.param(n, n + 62, marks=pytest.mark.slow) for n in range(52, 300, 62)),
]


@pytest.mark.parametrize(("start", "stop"), PARTS)
def test_spoiled_files(run: Run, start: int, stop: int, tmp_path: Path, report: Report) -> None:
    shipped = (ROOT / "sweeps.yaml").read_text(encoding="utf-8")
    made = spoiled([SMALL, SMALL, OTHER, OTHER, shipped], 300, SEED)[start:stop]
    file = tmp_path / "sweeps.yaml"
    codes = []
    for how, content in made:
        file.write_bytes(content)
        codes.append(check(run, how, file))
    refused = codes.count(2)
    message = "exit 2 with a message that names the file"
    report(Fault("spoiled sweep file, no longer valid", refused, message))
    report(Fault("spoiled sweep file, still valid", len(made) - refused, "read and planned"))
    assert refused > len(made) / 2
