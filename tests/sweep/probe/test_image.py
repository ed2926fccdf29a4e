"""The image: whole, out of the page cache, and gone however the probe ends."""

from __future__ import annotations

import errno
import os
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.errors import InputError, ResourceError
from sweep.probe import image as images
from sweep.probe import page_cache
from sweep.probe.grid import MIB
from sweep.probe.image import Patience, content, image, size_for

SIZE = 9 * MIB + 4096


def test_the_image_holds_its_bytes_and_has_no_name(tmp_path: Path) -> None:
    with image(tmp_path, SIZE, seed=7) as made:
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(made.buffered).st_size == made.size == SIZE
        pieces = b"".join(content(SIZE, 7))
        assert os.pread(made.buffered, SIZE, 0) == pieces
        assert len(set(pieces[:4096])) > 200  # as random as it should be
        descriptors = [made.buffered, made.direct]
    for descriptor in descriptors:
        if descriptor is not None:
            with pytest.raises(OSError, match="descriptor"):
                os.fstat(descriptor)


def test_its_pages_are_not_in_the_cache(tmp_path: Path) -> None:
    with image(tmp_path, SIZE) as made:
        share = page_cache.resident_share(made.buffered, SIZE)
        if share is None or made.file_system == "tmpfs":
            pytest.skip("the page cache cannot be looked into here")
        assert share == 0
        page_cache.expect(made.buffered, page_cache.RANDOM)  # no reading ahead
        os.pread(made.buffered, MIB, 0)
        assert (page_cache.resident_share(made.buffered, SIZE) or 0) > 0.1
        until = time.monotonic() + 5
        while page_cache.drop(made.buffered) and time.monotonic() < until:
            if not page_cache.resident_share(made.buffered, SIZE):
                break
        assert page_cache.resident_share(made.buffered, SIZE) == 0


def test_a_page_that_is_still_held_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    left = iter([0.1, 0.1, 0.0])
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)  # macOS has neither
    monkeypatch.setattr(
        os, "posix_fadvise", lambda *arguments: asked.append(arguments[-1]), raising=False
    )
    monkeypatch.setattr(page_cache, "resident_share", lambda _descriptor, _size: next(left))
    monkeypatch.setattr(page_cache, "PAUSE", 0)
    with (tmp_path / "file").open("wb") as file:
        assert page_cache.drop(file.fileno())
    assert asked == [4] * 3


def interrupted(size: int, seed: int) -> Iterator[memoryview]:
    yield next(content(size, seed))
    raise KeyboardInterrupt


def test_it_is_gone_after_ctrl_c_while_it_is_written(tmp_path: Path) -> None:
    free_before = len(os.listdir("/dev/fd"))
    with pytest.raises(KeyboardInterrupt), image(tmp_path, SIZE, interrupted):
        pass
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == free_before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_it_is_gone_after_an_error_while_it_is_read(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), image(tmp_path, SIZE):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def full(descriptor: int, piece: memoryview, offset: int) -> int:
        if offset >= 8 * MIB:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, piece, offset)

    monkeypatch.setattr(os, "pwrite", full)
    told = "disk is full after 8 MiB of an image of 9"
    with pytest.raises(ResourceError, match=told), image(tmp_path, SIZE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_direct_io_refused_at_open_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refusing(path: os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    with image(tmp_path, SIZE) as made:
        assert made.direct is None
        assert made.refused == "opening a file with O_DIRECT: Invalid argument"
        with pytest.raises(ResourceError, match="direct I/O is refused here: opening"):
            made.descriptor("direct")


def test_direct_io_refused_at_a_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "preadv", refusing)
    with image(tmp_path, SIZE) as made:
        assert made.direct is None
        assert made.refused == "reading with O_DIRECT: Invalid argument"


def test_the_alignment_is_the_least_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def of_pages(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if offset % 4096:
            raise OSError(errno.EINVAL, "Invalid argument")
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", of_pages)
    with image(tmp_path, SIZE) as made:
        if made.direct is None:
            pytest.skip("no direct I/O here")
        assert (made.align, made.refused) == (4096, "")


def test_on_a_slow_disk_a_smaller_image_is_enough(tmp_path: Path) -> None:
    with image(tmp_path, 20 * MIB, patience=Patience(0.0, 8 * MIB)) as made:
        assert made.size == os.fstat(made.buffered).st_size == 8 * MIB
        assert made.notes[0].startswith("the image is 8 MiB in place of 20 MiB")


def test_the_size_follows_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _path: usage(10**12, 0, 800 * MIB))
    assert size_for(tmp_path, None, MIB, quick=False) == 200 * MIB
    assert size_for(tmp_path, None, MIB, quick=True) == 128 * MIB
    assert size_for(tmp_path, 8 * MIB + 5, MIB, quick=False) == 8 * MIB
    with pytest.raises(ResourceError, match="needs 900 MiB and 800 MiB are free"):
        size_for(tmp_path, 900 * MIB, MIB, quick=False)
    with pytest.raises(InputError, match="--size 512 KiB is less than the largest read, 1 MiB"):
        size_for(tmp_path, MIB // 2, MIB, quick=False)


def test_no_right_to_write_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="no right to write here"), image(tmp_path, SIZE):
        pass


def test_a_folder_that_is_read_only_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    told = "no file can be made here: Read-only file system"
    with pytest.raises(InputError, match=told), image(tmp_path, SIZE):
        pass


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    told = f"{name} (does not exist|is no folder)"
    with pytest.raises(InputError, match=told), image(tmp_path / name, SIZE):
        pass
