"""The walkthrough: every command in it is run, in order, as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "walkthrough.md"
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("list", "validate")


def blocks(language: str) -> list[str]:
    return [
        body for name, body in BLOCKS.findall(PAGE.read_text(encoding="utf-8")) if name == language
    ]


def commands() -> list[list[str]]:
    lines = [line for body in blocks("sh") for line in body.splitlines() if line.strip()]
    return [shlex.split(line) for line in lines]


def write_file(folder: Path) -> Path:
    """The sweep file of the page, under the name that its first line gives."""
    (body,) = blocks("yaml")
    path = folder / body.splitlines()[0].removeprefix("# ")
    path.write_text(body, encoding="utf-8")
    return path


def call(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    assert words[0] == "sweep"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.run(
        [sys.executable, "-m", "sweep", *words[1:]],
        cwd=folder,
        env=environment | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_the_page_has_commands_and_one_sweep_file(tmp_path: Path) -> None:
    assert len(commands()) >= 10
    assert {words[0] for words in commands()} == {"sweep"}
    path = write_file(tmp_path)
    assert path.name == "first.yaml"
    assert "first" in yaml.safe_load(path.read_text())["sweeps"]


def test_commands_that_compute_nothing_work(tmp_path: Path) -> None:
    write_file(tmp_path)
    for words in commands():
        if words[1] in QUICK:
            done = call(words, tmp_path)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_works(tmp_path: Path) -> None:
    write_file(tmp_path)
    for words in commands():
        done = call(words, tmp_path)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    run = tmp_path / "runs" / "first"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How sure" in page
    assert "dip-ca" in page
    plan = json.loads((run / "plan.json").read_text())
    assert 0 < plan["to_run"] < sum(plan["tasks"].values())
