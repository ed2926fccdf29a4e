"""`sweep gc`: what goes, what stays, and what is never guessed at."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep import cli, downstream
from sweep.store import Store
from tests.sweep import tinysweep, tinytasks


@pytest.fixture
def tiny(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> dict[str, Any]:
    text, calibration = tinysweep.texts(tmp_path, tiny_text)
    return {
        "models": [str(tiny_llama)],
        "methods": ["dense", {"method": "dip", "density": [0.5, 0.7]}],
        "devices": [{"device": "apple-a18", "dram_gb": 0.0001}],
        "policies": "lru",
        "text": text,
        "calibration": calibration,
        "windows": 1,
        "window_tokens": 64,
        "tasks": [{"task": str(tinytasks.write(tmp_path / "mine") / "even.yaml"), "limit": 2}],
    }


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_what_a_sweep_needs_stays_and_the_rest_goes(
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fewer = {**tiny, "methods": ["dense", {"method": "dip", "density": 0.5}]}
    sweeps = {"tiny": tiny, "fewer": fewer}
    (tmp_path / "sweeps.yaml").write_text(yaml.safe_dump({"sweeps": sweeps}))
    run = ("run", "--workers", "0", "--no-report")
    assert call(monkeypatch, tmp_path, *run, "tiny", "--out", "out") == 0
    before = set(Store(tmp_path / "out").records)
    kinds = {record.kind for record in Store(tmp_path / "out").records.values()}
    assert {"evaluate", "score", "simulate"} <= kinds

    with monkeypatch.context() as forgotten:  # documents of the task are not known any more
        forgotten.setattr(downstream, "_card_file", lambda one: tmp_path / "no card")
        capsys.readouterr()
        assert call(forgotten, tmp_path, "gc", "out", "--keep", "fewer") == 2
        assert "nothing is removed: " in capsys.readouterr().err
    assert set(Store(tmp_path / "out").records) == before

    capsys.readouterr()
    assert call(monkeypatch, tmp_path, "gc", "out", "--keep", "fewer") == 0
    assert capsys.readouterr().out.startswith("3 records, ")  # evaluation, score and simulation
    assert call(monkeypatch, tmp_path, *run, "fewer", "--out", "out") == 0
    assert "nothing was missing" in capsys.readouterr().err
    assert len(Store(tmp_path / "out").records) == len(before) - 3
