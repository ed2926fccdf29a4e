from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.cli import doctor


def sweep(models: list[str], text: str, calibration: str = "wikitext2") -> Any:
    """As much of a sweep as doctor looks at."""
    entries = [SimpleNamespace(model=model) for model in models]
    return SimpleNamespace(
        name="mine",
        source="mine.yaml",
        tasks=(),
        models=entries,
        text=text,
        calibration=calibration,
    )


def test_every_requirement_is_listed_and_met() -> None:
    found = {check.what.split()[0]: check.state for check in doctor.checks()}
    assert found["torch"] == found["transformers"] == found["ray"] == found["python"] == "ok"


def test_versions_out_of_range_and_missing_packages_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ["numpy>=99", "no-such-package>=1", "pytest; extra == 'dev'"]
    monkeypatch.setattr(doctor, "_requirements", lambda: wanted)
    states = {check.what.split()[0]: check.state for check in doctor.checks()}
    assert states["numpy"] == "old"
    assert states["no-such-package"] == "missing"
    assert "pytest" not in states


def test_what_a_sweep_needs(tiny_llama: Path, tiny_text_file: Path) -> None:
    lines = doctor.report(sweep([str(tiny_llama), "some-one/model"], str(tiny_text_file)))
    needs = lines[lines.index("needed by mine") + 1 :]
    assert needs == [
        f"  ok       model {tiny_llama}",
        "  missing  model some-one/model: `sweep fetch some-one/model` gets it",
        f"  ok       text {tiny_text_file}",
        "  missing  text wikitext2, calibration: `sweep fetch wikitext2` gets it",
    ]


def test_what_cannot_be_used_is_told_with_its_reason(tmp_path: Path) -> None:
    lines = doctor.report(sweep([str(tmp_path)], "no-such.txt"))
    unusable = [line for line in lines if line.startswith("  unusable")]
    assert len(unusable) == 2
    assert "has no weights" in unusable[0]
    assert "no file that exists" in unusable[1]
