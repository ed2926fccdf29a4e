"""A replay needs a device that says what a read costs; one that does not is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.results import read_table, rows
from sweep.cli.app import app
from sweep.errors import InputError
from sweep.replay import points
from tests.sweep import tinysweep

PAPER = {"device": "apple-a18", "dram_gb": 0.000224}
DIP = {"method": "dip", "density": 0.5}


def run_on(model: Path, text: str, folder: Path, *devices: object) -> Path:
    settings = {"devices": list(devices), "keep_traces": True, "windows": 1}
    tinysweep.run(tinysweep.sweep_of(model, folder, text, DIP, **settings), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def folders(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Runs on the paper's device alone, and on it and one with latency."""
    alone, both = (tmp_path_factory.mktemp(name) for name in ("alone", "both"))
    run_on(tiny_llama, tiny_text, alone, PAPER)
    run_on(tiny_llama, tiny_text, both, PAPER, {**PAPER, "latency_us": 0.2})
    return alone / "out", both / "out"


def test_a_run_without_a_curve_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted(path.name for path in folders[0].iterdir())
    result = CliRunner().invoke(app, ["replay", str(folders[0]), "--folder", str(tmp_path)])
    assert result.exit_code != 0
    assert "says nothing of what a read costs" in str(result.exception)
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in folders[0].iterdir()) == before


def test_of_several_devices_those_with_a_curve_are_taken(folders: tuple[Path, Path]) -> None:
    (chosen,) = points.replayable(folders[1], (), 4)
    table = {str(row["point_key"]): row for row in rows(read_table(folders[1] / "results.parquet"))}
    assert table[chosen.key]["layout"] == "natural"
    (other,) = [key for key, row in table.items() if not row["layout"]]
    with pytest.raises(InputError, match=f"--point {other}: its device says nothing"):
        points.replayable(folders[1], (other,), 4)
