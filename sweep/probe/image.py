"""The file that is read: random bytes in the folder given, gone however the probe ends.

Its name is removed as soon as it is open, before anything is written: the space comes back when
the process ends, also if it is killed.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sweep.errors import InputError, ResourceError
from sweep.files.atomic import FULL
from sweep.probe import page_cache, system
from sweep.probe.grid import BUFFERED, GIB, MIB, size_text

CHUNK = 8 * MIB
SYNC_EVERY = 64 * MIB
DEFAULT_BYTES, QUICK_BYTES = GIB, 128 * MIB
SHARE_OF_FREE = 0.25
"""Of the free space, what an image of no given size takes at most."""
ALIGNMENTS = tuple(512 << step for step in range(8))
REFUSED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
"""What the system says where a file cannot be read around the page cache."""


@dataclass(frozen=True, slots=True)
class Patience:
    """On a slow disk: after `seconds` of writing, an image of `least` bytes is large enough."""

    seconds: float
    least: int


@dataclass(slots=True)
class Image:
    """An open file of `size` random bytes; `direct` is None where that is refused, with why."""

    size: int
    buffered: int
    direct: int | None
    refused: str = ""
    align: int = 1
    """Bytes that offsets and sizes of direct reads must be multiples of."""
    file_system: str = ""
    seed: int = 0
    written_gbps: float = 0.0
    notes: list[str] = field(default_factory=list)

    def descriptor(self, mode: str) -> int:
        """The descriptor for a mode; raises ResourceError for a refused one."""
        if mode == BUFFERED:
            return self.buffered
        if self.direct is None:
            raise ResourceError(f"direct I/O is refused here: {self.refused}")
        return self.direct


def size_for(folder: Path, asked: int | None, largest_read: int, quick: bool) -> int:
    """Bytes of the image: `asked`, or by default 1 GiB (quick: 128 MiB) and at most a quarter of
    the free space. Raises InputError for less than the largest read, ResourceError for too little
    space."""
    free = shutil.disk_usage(folder).free
    size = asked or min(QUICK_BYTES if quick else DEFAULT_BYTES, int(free * SHARE_OF_FREE))
    size -= size % largest_read if size > largest_read else 0
    if asked is not None and asked < largest_read:
        raise InputError(
            f"--size {size_text(asked)} is less than the largest read, {size_text(largest_read)}"
        )
    if size < largest_read or size > free:
        need = max(size, largest_read)
        raise ResourceError(
            f"{folder}: the image needs {size_text(need)} and {size_text(free)} are free; "
            "make room, or give a smaller --size or --read"
        )
    return size


def check_folder(folder: Path) -> None:
    """Raises InputError unless a file can be made in the folder."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give a folder on the storage to measure")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give a folder on the storage to measure")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: no right to write here; give a folder of your own")


def content(size: int, seed: int) -> Iterator[memoryview]:
    """The image's bytes, in pieces of CHUNK: random, so that no storage can make them smaller."""
    draw = np.random.Generator(np.random.SFC64(seed))
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        words = draw.integers(0, 2**64, -(-length // 8), dtype=np.uint64)
        yield words.view(np.uint8).data[:length]


@contextmanager
def image(
    folder: Path,
    size: int,
    pieces: Callable[[int, int], Iterator[memoryview]] = content,
    seed: int = 1,
    watch: Callable[[float], None] = lambda _share: None,
    patience: Patience | None = None,
) -> Iterator[Image]:
    """An image of `size` bytes in a folder, on the disk and out of the page cache.

    `pieces(size, seed)` gives its bytes, `watch` is told the share that is written. With
    `patience` it may become smaller, and `notes` says so. Raises InputError where no file can be
    made, ResourceError where the disk is full.
    """
    check_folder(folder)
    made = _opened(folder)
    made.size, made.seed = size, seed
    try:
        _write(made, pieces(size, seed), folder, watch, patience)
        page_cache.drop(made.buffered)
        _find_alignment(made)
        yield made
    finally:
        for descriptor in (made.buffered, made.direct):
            if descriptor is not None:
                os.close(descriptor)


def _opened(folder: Path) -> Image:
    """Open twice, with and without the page cache, and without a name from then on."""
    path = folder / f".sweep-probe-{os.getpid()}-{time.time_ns():x}.img"
    try:
        buffered = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"{folder}: the disk is full: {error.strerror}") from error
        raise InputError(f"{folder}: no file can be made here: {error.strerror}") from error
    try:
        direct, refused = _open_direct(path)
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
    made = Image(0, buffered, direct, refused, file_system=system.file_system(folder))
    if direct is not None and sys.platform == "darwin":
        _no_cache(buffered)  # what is written stays out of the cache, where reads would find it
    return made


def _open_direct(path: Path) -> tuple[int | None, str]:
    flag = getattr(os, "O_DIRECT", None)
    if sys.platform == "darwin":
        descriptor = os.open(path, os.O_RDONLY)
        _no_cache(descriptor)
        return descriptor, ""
    if flag is None:
        return None, "this system has no O_DIRECT"
    try:
        return os.open(path, os.O_RDONLY | flag), ""
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return None, f"opening a file with O_DIRECT: {error.strerror}"


def _no_cache(descriptor: int) -> None:
    import fcntl

    fcntl.fcntl(descriptor, getattr(fcntl, "F_NOCACHE", 48), 1)


def _write(
    made: Image,
    pieces: Iterator[memoryview],
    folder: Path,
    watch: Callable[[float], None],
    patience: Patience | None,
) -> None:
    start, offset = time.perf_counter(), 0
    try:
        for piece in pieces:
            offset = _write_piece(made.buffered, piece, offset)
            if offset % SYNC_EVERY == 0:
                os.fsync(made.buffered)
            watch(offset / made.size)
            late = patience is not None and time.perf_counter() - start > patience.seconds
            if patience is not None and late and patience.least <= offset < made.size:
                made.notes.append(
                    f"the image is {size_text(offset)} in place of {size_text(made.size)}: "
                    "writing is slow here; --size makes it as large as you say"
                )
                made.size = offset
                break
        os.fsync(made.buffered)
    except OSError as error:
        raise _write_error(folder, made.size, offset, error) from error
    made.written_gbps = made.size / (time.perf_counter() - start) / 1e9


def _write_piece(descriptor: int, piece: memoryview, offset: int) -> int:
    while piece:
        count = os.pwrite(descriptor, piece, offset)
        piece, offset = piece[count:], offset + count
    return offset


def _write_error(folder: Path, size: int, offset: int, error: OSError) -> ResourceError:
    why = "the disk is full" if error.errno in FULL else f"{error.strerror}"
    return ResourceError(
        f"{folder}: {why} after {size_text(offset)} of an image of {size_text(size)}; it is "
        "removed: make room, or give a smaller --size"
    )


def _find_alignment(made: Image) -> None:
    """The least size that a direct read may have; where none may, direct reads are refused."""
    if made.direct is None:
        return
    if sys.platform == "darwin":
        made.align = 4096  # F_NOCACHE refuses nothing, and reads the rest through the cache
        return
    for align in ALIGNMENTS:
        if 2 * align > made.size:
            break
        with mmap.mmap(-1, max(align, mmap.PAGESIZE)) as buffer, memoryview(buffer) as view:
            piece = view[:align]
            try:
                os.preadv(made.direct, [piece], align)
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                made.refused = f"reading with O_DIRECT: {error.strerror}"
                continue
            finally:
                piece.release()
        made.align, made.refused = align, ""
        return
    os.close(made.direct)
    made.direct = None
