"""Run folders behind a URL: s3://, gs://, abfs://, hdfs://, file://, and what fsspec knows.

Object stores cannot append to a file, so a run works in a folder of the cache, and what changes
there is copied to the URL every half minute and at the end. Opening fetches what is there, so a run
goes on from any machine. A note at the URL says who writes; it is renewed with every copy, and two
drivers that take it within the same second would not see each other.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from sweep.errors import InputError, ResourceError, StoreLockedError
from sweep.files.cache import cache_dir, cache_error
from sweep.keys import digest

PUSH_SECONDS = 30.0
STALE_SECONDS = 300.0
"""A note of a driver that was not renewed for so long is that of a dead one."""
HOLDER = "driver.json"
JOURNAL = "journal.jsonl"
SCHEMES = ("file", "s3", "gs", "abfs", "hdfs")
_KNOWN = f"known: {', '.join(SCHEMES)}, and those that fsspec has"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_READ_ONLY = ("http", "https")
_NOT_COPIED = (".lock", ".holder")


def is_url(text: str) -> bool:
    """Whether a run folder is given as a URL."""
    return bool(_URL.match(text))


def work_folder(url: str) -> Path:
    """The folder of this machine that stands for a URL."""
    return cache_dir() / "mirrors" / digest(["mirror", url.rstrip("/")])


@contextmanager
def mirrored(url: str) -> Iterator[Path]:
    """The folder to work in, fetched from the URL; what is written to it goes back there.

    Raises InputError for a URL that cannot be read as one, ResourceError where it cannot be
    reached, StoreLockedError where another driver writes to it.
    """
    mirror = Mirror(url)
    mirror.take()
    stop = threading.Event()

    def keep_pushing() -> None:
        while not stop.wait(PUSH_SECONDS):
            mirror.try_push()

    thread = threading.Thread(target=keep_pushing, daemon=True)
    try:
        mirror.pull()
        thread.start()
        yield mirror.folder
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
        mirror.push()
        mirror.release()


class Mirror:
    """A folder of this machine and its copy at a URL."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self.folder = folder or work_folder(url)
        self._files, self._root = _filesystem(self.url)
        self._pushed: dict[str, tuple[int, int]] = {}
        self._own = f"process {os.getpid()} on {socket.gethostname()}"

    # -- who writes --------------------------------------------------------------------------

    def take(self) -> None:
        """Say at the URL that this process writes there. Raises StoreLockedError."""
        with _reached(self.url):
            held = self._note()
            if held and held["who"] != self._own and time.time() - held["at"] < STALE_SECONDS:
                raise StoreLockedError(f"{self.url} is in use by {held['who']}")
            self._renew()

    def release(self) -> None:
        """Take the note away."""
        with _reached(self.url):
            self._files.delete_file(self._place(HOLDER))

    def _note(self) -> dict[str, Any] | None:
        try:
            holder = json.loads(self._read(HOLDER))
            return {"who": str(holder["who"]), "at": float(holder["at"])}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _renew(self) -> None:
        note = {"who": self._own, "at": time.time()}
        self._write(HOLDER, json.dumps(note).encode())

    # -- copying -----------------------------------------------------------------------------

    def pull(self) -> None:
        """Bring the folder up to what is at the URL.

        Lines of the journal that only this machine has, of a driver killed before it could copy
        them, are kept; of every other file the copy at the URL counts.
        """
        with _reached(self.url):
            for name in self._names():
                target = self.folder / name
                content = self._read(name)
                if PurePosixPath(name).name == JOURNAL and target.exists():
                    content = _joined(content, target.read_bytes())
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def push(self) -> None:
        """Copy what has changed since the last time. Raises ResourceError."""
        with _reached(self.url):
            for path in sorted(self.folder.rglob("*")):
                if path.is_file() and not _stays(path):
                    self._push(path)
            self._renew()

    def try_push(self) -> None:
        """`push`, where a failure can wait for the next time."""
        try:
            self.push()
        except (ResourceError, OSError):
            return

    def _push(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        try:
            about = path.stat()
            state = (about.st_size, about.st_mtime_ns)
            if self._pushed.get(name) != state:
                self._write(name, path.read_bytes())
                self._pushed[name] = state
        except FileNotFoundError:  # replaced or removed meanwhile
            self._pushed.pop(name, None)

    def _names(self) -> list[str]:
        from pyarrow import fs

        where = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        files = (i for i in self._files.get_file_info(where) if i.type == fs.FileType.File)
        root = self._root.strip("/")
        names = [info.path.strip("/").removeprefix(root).strip("/") for info in files]
        return sorted(name for name in names if name != HOLDER)

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _read(self, name: str) -> bytes:
        with self._files.open_input_stream(self._place(name)) as stream:
            return stream.read()

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all: object stores put whole objects, folders get a rename."""
        path = self._place(name)
        self._files.create_dir(path.rpartition("/")[0], recursive=True)
        renames = self._files.type_name == "local"
        target = f"{path}.{os.getpid()}.tmp" if renames else path
        with self._files.open_output_stream(target) as stream:
            stream.write(content)
        if renames:
            self._files.move(target, path)


def _stays(path: Path) -> bool:
    """Files that mean something on this machine only: locks, and what is being written; and traces,
    which are large and can be made again."""
    return path.name in _NOT_COPIED or path.name.endswith((".tmp", ".lock", ".trace"))


def _joined(there: bytes, here: bytes) -> bytes:
    """Lines of the journal at the URL, then those that only this machine has."""
    lines = [line for line in there.split(b"\n") if line]
    seen = set(lines)
    lines += [line for line in here.split(b"\n") if line and line not in seen]
    return b"".join(line + b"\n" for line in lines)


def _filesystem(url: str) -> tuple[Any, str]:
    """pyarrow's file system of a URL and the path in it. Raises InputError or ResourceError."""
    import pyarrow as pa
    from pyarrow import fs

    scheme = url.partition("://")[0].lower()
    if scheme in _READ_ONLY:
        raise InputError(f"{url}: {scheme} cannot be written to; {_KNOWN}")
    try:
        with _reached(url):
            return fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid as error:
        if "Unrecognized filesystem" not in str(error):
            raise InputError(f"{url} is no URL of a folder: {error}") from None
    return _by_fsspec(url)


def _by_fsspec(url: str) -> tuple[Any, str]:
    import fsspec
    from pyarrow import fs

    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ResourceError(f"{url}: {error}") from None
    except ValueError:
        scheme = url.partition("://")[0]
        raise InputError(f"{url}: unknown scheme {scheme!r} ({_KNOWN})") from None
    return fs.PyFileSystem(fs.FSSpecHandler(files)), path


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """Failures of the network and of permissions in words."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except pa.ArrowInvalid:
        raise
    except NotImplementedError:
        scheme = url.partition("://")[0]
        raise InputError(f"{url}: {scheme} cannot be written to; {_KNOWN}") from None
    except OSError as error:
        if error.filename and Path(str(error.filename)).is_relative_to(cache_dir()):
            raise cache_error(error) from None
        first = str(error).strip().splitlines()[0]
        raise ResourceError(f"{url} cannot be reached: {first}") from None
