"""Where fetched and derived files are kept, and how one is put there.

<cache>/downloads   wheels as the package index gave them, until unpacked
<cache>/fetched     the models and texts inside them
<cache>/converted   safetensors made from GGUF files
<cache>/tokens      tokenised texts
<cache>/expectations  what dense models expect, for distances to them
<cache>/hashes      sha256 of large local files, by path, size and time
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock

from sweep.errors import ResourceError
from sweep.files.atomic import FULL, NO_LOCKS


def cache_dir() -> Path:
    """$SWEEP_CACHE, else the platform's folder for caches (Linux: ~/.cache/flash-sweep)."""
    chosen = os.environ.get("SWEEP_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("flash-sweep", appauthor=False))


def training_dir() -> Path:
    """Where trainings that have not ended keep their checkpoints, and what they have said."""
    return cache_dir() / "training"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name`, so that of several processes one makes the file and the rest wait."""
    folder = cache_dir() / "locks"
    lock = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise cache_error(error) from None
    try:
        yield
    finally:
        lock.release()


def cache_error(error: OSError) -> ResourceError:
    """What became of a write to the cache folder, and the way out of it."""
    cure = "set SWEEP_CACHE to a folder that can be written"
    if error.errno in FULL:
        cure = "make room, or set SWEEP_CACHE to a folder on another disk"
    if error.errno in NO_LOCKS:
        cure = "set SWEEP_CACHE to a folder whose file system has file locks"
    reason = error.strerror or error
    return ResourceError(f"cannot write to the cache folder {cache_dir()} ({reason}); {cure}")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, for a file or a folder, that replaces it at the end.

    `target` appears complete or not at all; what is left after an error is removed.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=".staged-", dir=target.parent))
    except OSError as error:
        raise (cache_error(error) if target.is_relative_to(cache_dir()) else error) from error
    try:
        yield room / target.name
        (room / target.name).replace(target)
    except OSError as error:
        raise _said(error, target) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _said(error: OSError, target: Path) -> Exception:
    """A lack of room or of rights in the cache folder in words; any other error as it is."""
    inside = target.is_relative_to(cache_dir())
    refused = error.errno in (*FULL, errno.EACCES, errno.EPERM, errno.EROFS)
    in_folder = error.filename is None or str(error.filename).startswith(str(target.parent))
    return cache_error(error) if inside and refused and in_folder else error


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """As `sha256_of`, computed again only when the file's size or times changed.

    The time of the last change to the inode is among them, which no tool can set back.
    """
    real = path.resolve()
    stat = real.stat()
    seen = {"path": str(real), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    seen |= {"ctime_ns": stat.st_ctime_ns, "inode": stat.st_ino}
    note = cache_dir() / "hashes" / f"{hashlib.sha256(str(real).encode()).hexdigest()[:24]}.json"
    remembered = _read_note(note)
    if {name: remembered.get(name) for name in seen} == seen and "sha256" in remembered:
        return str(remembered["sha256"])
    digest = sha256_of(real)
    with (
        suppress(OSError, ResourceError),
        staged(note) as temporary,
    ):  # a cache that cannot be written: no note
        temporary.write_text(json.dumps({**seen, "sha256": digest}), encoding="utf-8")
    return digest


def _read_note(note: Path) -> dict[str, object]:
    try:
        remembered = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}
