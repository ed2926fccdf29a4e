"""Files that are written whole or not at all, and what stands in their place moved out of it."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from sweep.errors import ResourceError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where there is no room for more."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What the system says where a file system has no file locks."""


class WriteError(ResourceError):
    """A file cannot be written: the disk is full, read-only or gone. What was kept is whole."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says of a failed write into one message."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path | str, error: OSError) -> WriteError:
    """The message for a write that failed, with what to do."""
    cure = "make room" if error.errno in FULL else "mend that"
    return WriteError(
        f"cannot write {path}: {error.strerror or error}; what ended before is kept: {cure} and "
        "run the same command again to go on"
    )


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises WriteError, and then the old content is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`replace` with indented JSON."""
    replace(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlast a loss of power, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append(descriptor: int, content: bytes) -> None:
    """Add to the end of an open file, on the disk on return; all of it or, after OSError, nothing.

    Raises OSError also where the file has been removed meanwhile.
    """
    before = os.fstat(descriptor)
    if before.st_nlink == 0:
        raise OSError(errno.ENOENT, "the file was removed while it was in use")
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, before.st_size)
        raise


def stray(path: Path, folder: bool = False) -> str:
    """What stands where a file (or a folder) belongs, in words; empty if nothing is wrong."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing" if path.is_symlink() else ""
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "is a link to itself"
    if folder:
        return "" if stat.S_ISDIR(mode) else "is no folder"
    if stat.S_ISDIR(mode):
        return "is a folder"
    return "" if stat.S_ISREG(mode) else "is no plain file"


def clear(files: Iterable[Path], folders: Iterable[Path] = ()) -> list[str]:
    """Set aside what is no file (no folder) where one belongs; says what that was."""
    strays = [(path, wrong) for path in files if (wrong := stray(path))]
    strays += [(path, wrong) for path in folders if (wrong := stray(path, folder=True))]
    for path, _ in strays:
        set_aside(path)
    return [f"{path.name} {wrong}" for path, wrong in strays]


def set_aside(path: Path) -> Path:
    """Rename to NAME.damaged (NAME.2.damaged where that cannot be); returns the new path."""
    for number in count(1):
        damaged = path.with_name(f"{path.stem}{f'.{number}' if number > 1 else ''}.damaged")
        if damaged.is_dir() or (path.is_dir() and os.path.lexists(damaged)):
            continue
        path.replace(damaged)
        return damaged
    raise AssertionError("unreachable")
