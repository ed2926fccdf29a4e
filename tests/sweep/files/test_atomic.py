"""Files written whole or not at all, also where the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sweep.files import atomic as safefile
from sweep.files.atomic import WriteError, append, replace, set_aside, stray


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room for five bytes more."""
    left, write = [5], os.write

    def until_full(descriptor: int, content: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = content[: left[0]]
        left[0] -= len(part)
        return write(descriptor, part)

    monkeypatch.setattr(safefile.os, "write", until_full)


def test_what_does_not_fit_is_taken_back(full: None, tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"one\n")
    with (tmp_path / "journal").open("ab", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            append(file.fileno(), b"a long line\n")
        assert (tmp_path / "journal").read_bytes() == b"one\n"


def test_a_file_that_was_removed_takes_no_more(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("ab", buffering=0) as file:
        append(file.fileno(), b"one\n")
        (tmp_path / "journal").unlink()
        with pytest.raises(OSError, match="was removed while it was in use"):
            append(file.fileno(), b"two\n")


def test_a_replacement_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(tmp_path / "file", b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(safefile.os, "fsync", refuse)
    with pytest.raises(WriteError, match=r"No space left .*: make room and run"):
        replace(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_stands_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("nowhere")
    found = {path.name: stray(path) for path in tmp_path.iterdir()}
    assert found == {
        "folder": "is a folder",
        "file": "",
        "loop": "is a link to itself",
        "nothing": "is a link to nothing",
    }
    assert stray(tmp_path / "file", folder=True) == "is no folder"
    assert stray(tmp_path / "missing") == ""


def test_what_is_set_aside_overwrites_no_folder(tmp_path: Path) -> None:
    kept = []
    for _ in range(3):
        (tmp_path / "a.json").mkdir()
        kept.append(set_aside(tmp_path / "a.json").name)
    (tmp_path / "a.json").touch()
    kept.append(set_aside(tmp_path / "a.json").name)
    assert kept == ["a.damaged", "a.2.damaged", "a.3.damaged", "a.4.damaged"]
