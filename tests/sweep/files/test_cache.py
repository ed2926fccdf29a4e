from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from sweep.errors import ResourceError
from sweep.files import cache as cachedir
from sweep.files.cache import cache_dir, locked, staged
from sweep.store.store import Store


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cachedir.cache_dir() == cache
    monkeypatch.delenv("SWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "xdg"))
    assert cachedir.cache_dir().name == "flash-sweep"


def test_a_staged_file_replaces_its_target_at_the_end(cache: Path) -> None:
    target = cache / "deep" / "file.txt"
    with cachedir.staged(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_staged_folder_that_fails_leaves_nothing(cache: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        _write_half(cache / "folder")
    assert os.listdir(cache) == []


def test_remembered_hash_follows_the_content(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        for _ in range(2):
            assert cachedir.remembered_sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_time_that_was_set_back_hides_no_change(cache: Path, tmp_path: Path) -> None:
    """As by tools that copy a file with its times over another of the same size."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"old")
    before, stat = cachedir.remembered_sha256(weights), weights.stat()
    weights.write_bytes(b"new")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cachedir.remembered_sha256(weights) != before


def test_remembered_hash_is_not_computed_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = cachedir.remembered_sha256(path)
    monkeypatch.setattr(cachedir, "sha256_of", lambda path: pytest.fail("hashed again"))
    assert cachedir.remembered_sha256(path) == first


def test_a_damaged_note_is_ignored(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = cachedir.remembered_sha256(path)
    for note in (cache / "hashes").iterdir():
        note.write_text("{ not json")
    assert cachedir.remembered_sha256(path) == first


def test_a_cache_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="set SWEEP_CACHE"), cachedir.locked("any"):
        pass


def _write_half(target: Path) -> None:
    with cachedir.staged(target) as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("half")
        raise RuntimeError("power cut")


def test_a_cache_that_cannot_be_written_says_how_to_move_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", "/proc/flash-sweep")
    said = pytest.raises(ResourceError, match="set SWEEP_CACHE to a folder that can be written")
    with said, staged(cache_dir() / "tokens" / "x.npy"):
        raise AssertionError("nothing can be staged there")
    with pytest.raises(ResourceError, match="set SWEEP_CACHE"), locked("x"):
        raise AssertionError("nothing can be locked there")


def test_a_full_cache_is_said_and_an_error_of_the_work_is_not_one_of_the_cache() -> None:
    target = cache_dir() / "full" / "x.npy"
    with pytest.raises(ResourceError, match="make room, or set SWEEP_CACHE"), staged(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ConnectionResetError), staged(target):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    assert not target.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(ResourceError, match="whose file system has file locks"), locked("x"):
        raise AssertionError("it is not locked")
    with pytest.raises(ResourceError, match="has no file locks"), Store(tmp_path / "run"):
        raise AssertionError("it is not locked")


def test_who_holds_a_store_makes_no_folder(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").holder() == ""
    assert not (tmp_path / "none").exists()
