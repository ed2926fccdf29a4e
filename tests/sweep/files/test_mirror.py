"""Runs behind a URL: fetched, copied back, resumed elsewhere, held by one driver."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweep.errors import InputError, ResourceError, StoreLockedError
from sweep.files import mirror
from sweep.files.mirror import HOLDER, Mirror, mirrored
from sweep.store.store import Store
from tests.sweep.tinysweep import sweep_of

DIP = {"method": "dip", "density": 0.5}


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    name = request.node.name.replace("[", "-").replace("]", "")
    return f"memory://{name}/r" if request.param == "memory" else f"file://{tmp_path}/there/r"


def test_what_is_written_is_there(url: str, tmp_path: Path) -> None:
    with mirrored(url) as folder:
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "a.log").write_text("a")
        (folder / "journal.jsonl").write_bytes(b"one\n")
        (folder / ".lock").touch()
    Mirror(url, tmp_path / "copy").pull()
    copied = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*")}
    assert copied == {"logs", "logs/a.log", "journal.jsonl"}
    assert (tmp_path / "copy" / "journal.jsonl").read_bytes() == b"one\n"


def test_lines_of_both_sides_are_kept(url: str, tmp_path: Path) -> None:
    """One machine was killed before it copied its last line; another went on meanwhile."""
    first, second = Mirror(url, tmp_path / "first"), Mirror(url, tmp_path / "second")
    for folder in (first.folder, second.folder):
        folder.mkdir()
    (first.folder / "journal.jsonl").write_bytes(b"one\n")
    first.push()
    (first.folder / "journal.jsonl").write_bytes(b"one\ntwo\n")
    second.pull()
    with (second.folder / "journal.jsonl").open("ab") as file:
        file.write(b"three\n")
    second.push()
    first.pull()
    assert (first.folder / "journal.jsonl").read_bytes() == b"one\nthree\ntwo\n"


def test_only_what_changed_is_copied(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Mirror(url, tmp_path / "here")
    made.folder.mkdir()
    for name in "ab":
        (made.folder / name).write_text(name)
    made.push()
    written: list[str] = []
    original = Mirror._write

    def write(self: Mirror, name: str, content: bytes) -> None:
        written.append(name)
        original(self, name, content)

    monkeypatch.setattr(Mirror, "_write", write)
    (made.folder / "b").write_text("new")
    made.push()
    assert written == ["b", HOLDER]


def test_one_driver_at_a_time(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Mirror(url, tmp_path / "other")
    other._own = "process 1 on another machine"
    other.take()
    with pytest.raises(StoreLockedError, match="in use by process 1 on another machine"):
        mirrored(url).__enter__()
    monkeypatch.setattr(mirror, "STALE_SECONDS", 0.0)  # it was not renewed: it is dead
    with mirrored(url):
        assert json.loads(other._read(HOLDER))["who"] != other._own
    with pytest.raises(FileNotFoundError):
        other._read(HOLDER)


def test_it_is_copied_while_it_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.02)
    with mirrored(url) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a").write_text("early")
        reader, until = Mirror(url, tmp_path / "copy"), time.monotonic() + 30
        copied = b""  # a copy may begin between the making of the file and its content
        while copied != b"early" and time.monotonic() < until:
            time.sleep(0.01)
            copied = reader._read("a") if "a" in reader._names() else b""
        assert copied == b"early"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("foo://bucket/x", InputError, "unknown scheme 'foo' .known: file, s3, gs, abfs, hdfs"),
        ("file://relative/x", InputError, "is no URL of a folder"),
        ("smb://host/x", ResourceError, "(?i)smb"),
    ],
)
def test_urls_that_lead_nowhere(given: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mirrored(given).__enter__()


def test_a_run_goes_on_from_the_url_on_another_machine(
    url: str, tmp_path: Path, tiny_llama: Path, tiny_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second cache folder stands for a second machine."""
    from sweep.cli.app import app

    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP)
    body = {
        "models": [str(tiny_llama)],
        "methods": ["dense", DIP],
        "devices": [{"device": "apple-a18", "dram_gb": 0.0001}],
        "text": sweep.text,
        "calibration": sweep.calibration,
        "windows": 2,
        "window_tokens": 64,
    }
    (tmp_path / "s.yaml").write_text(json.dumps({"sweeps": {"t": body}}))
    call = ["run", "t", "-f", str(tmp_path / "s.yaml"), "--workers", "0", "--no-report"]
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "one"))
    part = CliRunner().invoke(app, [*call, "--out", url, "--only", "dense"])
    assert part.exit_code == 0, part.output
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "two"))
    whole = CliRunner().invoke(app, [*call, "--out", url])
    assert whole.exit_code == 0, whole.output
    assert f"all of it: {url}" in whole.output
    first, second = (mirror.cache_dir().parent / n / "mirrors" for n in ("one", "two"))
    assert first.is_dir()
    assert second.is_dir()
    pulled = CliRunner().invoke(app, ["pull", url, str(tmp_path / "copy")])
    assert pulled.exit_code == 0, pulled.output
    done = Store(tmp_path / "copy").records.values()
    assert sorted(r.kind for r in done) == ["evaluate"] * 4 + ["simulate"] * 2
    assert (tmp_path / "copy" / "results.parquet").exists()


@pytest.mark.parametrize("url", ["http://host/run", "https://host/a/run"])
def test_a_web_address_cannot_be_written_to(url: str) -> None:
    with pytest.raises(InputError, match="cannot be written to"):
        Mirror(url)
