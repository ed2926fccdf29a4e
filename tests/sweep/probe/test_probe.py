"""`sweep probe` as a whole: tiny sizes, what it writes, and every way in which it refuses."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from simulator import Device
from sweep.cli.app import app
from sweep.errors import InputError, ResourceError
from sweep.probe import compute, device_file, disk, grid, memory, run, system
from sweep.probe.grid import KIB, MIB
from sweep.probe.image import image
from sweep.probe.run import Options, Outcome

TINY = {
    "seconds": 0.6,
    "image_bytes": 8 * MIB,
    "sizes": (4 * KIB, 64 * KIB),
    "depths": (1, 2),
}


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shares: list[float] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def phase(self, text: str, share: float) -> None:
        self.shares.append(share)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, compute):
        monkeypatch.setattr(module, "fitting", lambda _size: 4 * MIB)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processor is stolen and no file system is in memory, whatever machine tests run on."""
    monkeypatch.setattr(system, "stolen_seconds", lambda: None)
    monkeypatch.setattr(system, "file_system", lambda _: "ext4")


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    """Storage whose reads take 200 µs and 2 GB/s, so that curves come out on any machine; repeats
    may be short, as they cannot be noisy."""
    monkeypatch.setattr(grid, "LEAST_SECONDS", 0.005)
    monkeypatch.setattr(run, "_BESIDE_SECONDS", 0.001)
    measure = disk.measure

    def slowly(*given: Any, **named: Any) -> disk.Repeat:
        repeat = measure(*given, **named)
        cell = given[1]
        seconds = 200e-6 / cell.depth + cell.size / 2e9
        timed = repeat.reads * seconds
        alone = replace(repeat, waited_s=0, still_s=0, cpu_s=0, cached=0)
        return replace(alone, elapsed_s=timed, deadline_s=timed, p50_us=1e6 * seconds)

    monkeypatch.setattr(disk, "measure", slowly)


@pytest.fixture
def outcome(tmp_path: Path, storage: None) -> Outcome:
    folder = tmp_path / "probed"
    folder.mkdir()
    made = run.probe(Options(folder, **TINY), Silent())
    assert list(folder.iterdir()) == []
    return made


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["probe", *words])


def refused(*words: str) -> str:
    """The message of a probe that is refused as bad input."""
    result = call(*words)
    assert isinstance(result.exception, InputError), result
    return str(result.exception)


def test_every_cell_has_a_row(outcome: Outcome) -> None:
    kinds = {(row.mode, row.pattern) for row in outcome.rows}
    if outcome.machine["direct_refused"]:
        pytest.skip("no direct I/O here")
    assert len(kinds) == 4
    sizes = {(row.size, row.depth) for row in outcome.rows}
    assert sizes == {(size, depth) for size in (4096, 65536) for depth in (1, 2)}
    for row in outcome.rows:
        assert row.valid, row.reason
        assert row.mbps_min <= row.mbps <= row.mbps_max
        assert row.n > 0
        assert 1 <= row.repeats <= 6


def test_the_device_says_what_was_measured(outcome: Outcome) -> None:
    made = device_file.device(outcome, "mine", "sweep probe --quick", date(2026, 11, 26))
    again = yaml.safe_load(device_file.text_of(made))
    assert again == made
    assert again["flash"]["depth"][1] == [
        [4096, pytest.approx(0.02028, rel=1e-3)],
        [65536, pytest.approx(0.2816, rel=1e-3)],
    ]
    assert again["io_depth"] == 2
    assert again["align_bytes"] == outcome.machine["align_bytes"]
    assert again["flash_gbps"] == pytest.approx(65536 / (100e-6 + 65536 / 2e9) / 1e9, rel=1e-3)
    assert again["dram_gb"] == pytest.approx(outcome.machine["free_memory_bytes"] / 1e9, rel=1e-3)
    assert again["compute_gbps"] > 0
    assert "2026-11-26 by `sweep probe --quick` (ext4, " in again["source"]


def test_the_simulator_loads_the_device(outcome: Outcome) -> None:
    made = device_file.device(outcome, "mine", "sweep probe", date(2026, 11, 26))
    device = Device.load(yaml.safe_load(device_file.text_of(made)))
    assert (device.name, device.dram_gbps, device.kind) == ("mine", made["dram_gbps"], "curve")
    cost = device.read_cost()
    assert cost is not None
    assert cost(65536) == pytest.approx(100e-6 + 65536 / 2e9, rel=1e-3)


def test_the_fit_of_the_law_is_the_law(outcome: Outcome) -> None:
    first = outcome.fits[0]
    assert first.latency_us == pytest.approx(200, rel=0.01)
    assert first.gbps == pytest.approx(2, rel=0.01)


def test_the_space_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Silent()

    def unwritten(*_: object) -> int:
        assert watcher.said == [
            f"{tmp_path}: writes an image of 8 MiB, reads it for about 1 s and removes it"
        ]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", unwritten)
    with pytest.raises(ResourceError, match="the disk is full after 0 bytes"):
        run.probe(Options(tmp_path, **TINY), watcher)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> disk.Repeat:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk, "measure", pressed)
    result = call(str(tmp_path), "--size", "8MiB", "--read", "4KiB", "--seconds", "0.2")
    assert result.exit_code == 130
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_device_and_its_rows(tmp_path: Path, storage: None) -> None:
    words = ["--seconds=0.5", "--size=8MiB", "--read=4KiB", "--read=64k", "--depth=2"]
    result = call(str(tmp_path), *words, "--name", "mine")
    if "direct I/O is refused" in str(result.exception):
        pytest.skip("no direct I/O here")
    assert result.exit_code == 0, result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device.jsonl", "device.yaml"]
    text = (tmp_path / "device.yaml").read_text()
    assert str(tmp_path) not in text
    assert f"`sweep probe {' '.join(words)}`" in " ".join(text.split())
    records = [json.loads(line) for line in (tmp_path / "device.jsonl").read_text().splitlines()]
    kinds = [record["kind"] for record in records]
    assert kinds[0] == "machine"
    assert kinds.count("flash") == 8
    assert {"rate", "fit"} <= set(kinds)
    assert "direct random, MB/s" in result.stdout
    assert "depth 2: 100.0 µs + bytes / 2.00 GB/s" in result.stdout
    assert f"{tmp_path / 'device.yaml'} exists; give --force" in refused(str(tmp_path), *words)
    assert call(str(tmp_path), *words, "--force").exit_code == 0


def test_without_direct_io_there_is_no_device_but_rows_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    opened = os.open

    def refusing(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    words = ["--seconds=0.3", "--size=8MiB", "--read=4KiB", "--read=64KiB", "--depth=1", "--quick"]
    result = call(str(tmp_path), *words)
    assert isinstance(result.exception, ResourceError)
    assert "no device file: direct I/O is refused here" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["device.jsonl"]
    lines = (tmp_path / "device.jsonl").read_text().splitlines()
    rows = [r for r in map(json.loads, lines) if r["kind"] == "flash"]
    assert len(rows) == 2
    assert all(row["mode"] == "buffered" and not row["valid"] for row in rows)
    assert all("direct I/O refused" in row["reason"] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depth", "0"], "--depth 0: 1 to 256 is expected"),
        (["--depth", "1000"], "--depth 1000: 256 at most"),
        (["--seconds", "-1"], "--seconds -1: a time above 0"),
        (["--interface-gbps", "0"], "--interface-gbps 0: a rate above 0"),
        (["--size", "1MiB"], "--size 1 MiB is less than the largest read, 4 MiB"),
        (["--size", "huge"], "--size 'huge' is no size"),
        (["--read", "4 parsec"], "--read '4 parsec' is no size"),
        (["--out", "device.txt"], "--out device.txt: a device file ends in .yaml"),
        (["--out", "none/device.yaml"], "none is no folder"),
    ],
)
def test_bad_input_is_one_error(tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused(str(tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_several_faults_are_said_at_once(tmp_path: Path) -> None:
    message = refused(str(tmp_path), "--depth", "0", "--seconds", "0")
    assert len(message.splitlines()) == 2


def test_a_path_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    assert "nowhere does not exist" in refused(str(tmp_path / "nowhere"))


def test_more_than_the_free_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = call(str(tmp_path), "--size", "999999GiB")
    assert isinstance(result.exception, ResourceError)
    assert result.exception.exit_code == 3
    assert "are free" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_memory_gives_no_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "file_system", lambda _: "tmpfs")
    made = run.probe(Options(tmp_path, quick=True, **TINY), Silent())
    assert made.curves == []
    reasons = {row.reason.partition(";")[0] for row in made.rows}
    assert reasons == {"page cache: tmpfs is in memory"}
    assert "page cache: tmpfs is in memory" in device_file.refusal(made)


def test_the_file_system_of_a_folder_is_known(tmp_path: Path) -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("not Linux")
    with image(tmp_path, MIB) as made:
        assert made.file_system == system.file_system(tmp_path) != ""
    assert system.file_system(Path("/proc")) == "proc"


def test_free_memory_is_less_than_there_is() -> None:
    free, where = system.free_memory()
    assert 0 < free < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert where
