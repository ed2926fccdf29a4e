"""A second run keeps the table, unless the table or what it is made of has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.results import table
from tests.sweep.tinysweep import run, sweep_of

DIP = {"method": "dip", "density": [0.5, 0.7]}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points each table had that was made."""
    counts: list[int] = []
    original = table.build

    def build(plan: table.Plan, *arguments: object) -> object:
        counts.append(len(plan.points))
        return original(plan, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "build", build)
    return counts


def test_nothing_new_keeps_the_table(
    tmp_path: Path, tiny_llama: Path, tiny_text: str, built: list[int]
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP)
    first, frame = run(sweep, tmp_path / "out")
    again, same = run(sweep, tmp_path / "out")
    assert (first.ran, again.ran) == (6 + 4, 0)
    assert again.table.equals(first.table)
    assert same.equals(frame)
    assert built == [3]


@pytest.mark.parametrize("name", ["results.parquet", "results.csv", "provenance.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_file_is_written_again(
    tmp_path: Path, tiny_llama: Path, tiny_text: str, built: list[int], name: str, damage: str
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense")
    first, _ = run(sweep, tmp_path / "out")
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2]) if damage == "cut" else path.unlink()
    again, _ = run(sweep, tmp_path / "out")
    assert again.table.equals(first.table)
    assert built == [1, 1]
    if name != "provenance.json":
        assert path.read_bytes() == whole


def test_another_device_is_another_table(
    tmp_path: Path, tiny_llama: Path, tiny_text: str, built: list[int]
) -> None:
    """No task is run for it, but its rows differ."""
    speeds = []
    for gbps in (1, 2):
        device = {"device": "apple-a18", "dram_gb": 0.0001, "flash_gbps": gbps}
        sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP, devices=[device])
        done, frame = run(sweep, tmp_path / "out")
        speeds.append((done.ran, float(frame["flash_gbps"].iloc[0])))
    assert speeds == [(10, 1.0), (0, 2.0)]
    assert built == [3, 3]
