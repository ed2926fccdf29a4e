"""`sweep gc`: what goes, what stays, and what is never guessed at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.downstream import cards as downstream
from sweep.store.store import Store
from tests.chaos.inside import Run
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


def test_what_a_sweep_needs_stays_and_the_rest_goes(
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call, out = Run(monkeypatch, capsys), tmp_path / "out"
    fewer = {**tiny, "methods": ["dense", {"method": "dip", "density": 0.5}]}
    sweeps = {"tiny": tiny, "fewer": fewer}
    (tmp_path / "sweeps.yaml").write_text(yaml.safe_dump({"sweeps": sweeps}))
    monkeypatch.chdir(tmp_path)
    run = ("run", "--workers", "0", "--no-report", "--out", "out")
    assert call(*run, "tiny")[0] == 0
    before = Store(out).records
    assert {"evaluate", "score", "simulate"} <= {record.kind for record in before.values()}

    with monkeypatch.context() as forgotten:  # documents of the task are not known any more
        forgotten.setattr(downstream, "_card_file", lambda one: tmp_path / "no card")
        code, _, err = call("gc", "out", "--keep", "fewer")
    assert code == 2
    assert "nothing is removed: " in err
    assert set(Store(out).records) == set(before)

    code, said, _ = call("gc", "out", "--keep", "fewer")
    assert code == 0
    assert said.startswith("3 records, ")  # an evaluation, its score and its simulation
    assert "nothing was missing" in call(*run, "fewer")[2]
    assert len(Store(out).records) == len(before) - 3
