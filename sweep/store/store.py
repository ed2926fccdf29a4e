"""The store: one journal, one writer (the driver), artefacts beside it.

`journal.jsonl` gets one line per task that ended, fsynced, with a checksum of its own. The last
line of a key counts. Lines that cannot be trusted are set aside in `journal.damaged`, named, and
their tasks are missing again.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import filelock
import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError, SweepError
from sweep.files.atomic import (
    FULL,
    WriteError,
    append,
    clear,
    replace,
    set_aside,
    stray,
    sync_folder,
    write_error,
    writing,
)
from sweep.tasks.run import Record

if TYPE_CHECKING:
    from simulator import Trace

_ARRAYS, _TRACE = ".npz", ".trace"
_NAMES = "__names__"
"""Among the arrays of a file, the names of the others."""
_KEY = "__key__"
"""Among the arrays of a file, the key that it was written under."""
_SUFFIXES = (_ARRAYS, _TRACE)
_HEAD = '{"sum":"%s","record":'
_HEAD_CHARS = len(_HEAD % ("0" * 8))


class StoreLockedError(SweepError):
    """Another driver writes to the store; the message says which."""

    exit_code = 2


class DamagedError(SweepError):
    """A file of the store is not what was written."""


class Store:
    """Results of tasks by key, in a folder.

    As a context manager it is the one writer: it takes the lock, then reads the journal afresh.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.damaged: list[str] = []
        self.records: dict[str, Record] = {}
        self._latest: dict[tuple[str, str], Record] = {}
        self._digest = b""
        """Digest of the journal as it was read."""
        self._file: IO[bytes] | None = None
        self._lock = filelock.FileLock(folder / ".lock")
        self._read()

    # -- reading -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the journal, unless it is, to the bit, what was read before without a fault."""
        try:
            wrong = stray(self.journal)
            text = b"" if wrong else self.journal.read_bytes()
        except FileNotFoundError:
            wrong, text = "", b""
        except OSError as error:
            raise InputError(f"cannot read {self.journal}: {error.strerror}") from None
        before, self._digest = self._digest, hashlib.sha256(text).digest()
        if self._digest == before and not wrong and not self.damaged:
            return
        self.damaged.clear()
        self.records.clear()
        self._latest.clear()
        if wrong:
            self.damaged.append(f"{self.journal.name} {wrong}")
        for number, line in enumerate(text.split(b"\n"), start=1):
            if line.strip():
                self._read_line(number, line)

    def _read_line(self, number: int, line: bytes) -> None:
        record = _parse(line)
        if record is None:
            self.damaged.append(f"{self.journal.name} line {number}")
        else:
            self._keep(record)

    def _keep(self, record: Record) -> None:
        self.records[record.key] = record
        self._latest[record.kind, record.label] = record

    def latest(self, kind: str, label: str) -> Record | None:
        """The last record of this kind and label, whatever its key."""
        return self._latest.get((kind, label))

    def done(self, key: str) -> Record | None:
        """The record of a task that ended well, if there is one."""
        record = self.records.get(key)
        return record if record is not None and record.status == "done" else None

    # -- writing -----------------------------------------------------------------------------

    def __enter__(self) -> Store:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            in_place = clear([self.folder / ".lock", self.folder / ".holder"])
            self._acquire()
            self._open(in_place)
        except OSError as error:
            self._lock.release()
            if error.errno in FULL:
                raise write_error(self.folder, error) from None
            raise InputError(f"cannot write to {self.folder}: {error.strerror or error}") from None
        except WriteError:
            self._lock.release()
            raise
        return self

    def _open(self, damaged: list[str]) -> None:
        self._read()
        cleared = clear([self.journal])
        self.damaged += damaged + [text for text in cleared if text not in self.damaged]
        if not cleared and (self.damaged or self._unfinished_line()):
            self._set_damage_aside()
        self._file = self.journal.open("ab", buffering=0)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        (self.folder / ".holder").unlink(missing_ok=True)
        self._lock.release()

    def holder(self) -> str:
        """Who writes to the store now; empty if nobody does."""
        path = self.folder / ".holder"
        try:
            with self._lock.acquire(timeout=0):
                return ""
        except filelock.Timeout:
            return path.read_text().strip() if path.exists() else "another process"
        except OSError:
            return ""

    def _acquire(self) -> None:
        holder = self.folder / ".holder"
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            who = holder.read_text() if holder.exists() else "another process"
            raise StoreLockedError(f"store {self.folder} is in use by {who.strip()}") from None
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")

    def _unfinished_line(self) -> bool:
        return self.journal.exists() and self.journal.read_bytes()[-1:] not in (b"", b"\n")

    def _set_damage_aside(self) -> None:
        """Rewrite the journal with its good lines; keep the bad ones for who wants to look."""
        lines = [line for line in self.journal.read_bytes().split(b"\n") if line.strip()]
        good = [line for line in lines if _parse(line) is not None]
        bad = [line for line in lines if _parse(line) is None]
        if bad:
            with (self.folder / "journal.damaged").open("ab") as aside:
                aside.write(b"\n".join(bad) + b"\n")
        replace(self.journal, b"".join(line + b"\n" for line in good))

    def add(self, record: Record) -> None:
        """Keep a record for good: on return it is on the disk. Raises WriteError."""
        if self._file is None:
            raise RuntimeError("the store is not open for writing")
        with writing(self.journal):
            append(self._file.fileno(), _line(record).encode())
        self._keep(record)

    def lines(self) -> int:
        """Lines of the journal, superseded ones included."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def rewrite(self, keep: set[str]) -> None:
        """Write the journal anew with one line for each record in `keep`."""
        if self._file is None:
            raise RuntimeError("the store is not open for writing")
        self.records = {key: record for key, record in self.records.items() if key in keep}
        replace(self.journal, "".join(map(_line, self.records.values())).encode())
        self._file.close()
        self._file = self.journal.open("ab", buffering=0)

    # -- artefacts ---------------------------------------------------------------------------

    def artefact(self, key: str) -> Path | None:
        """Where what a task handed over is kept, if it is."""
        paths = (self.folder / "artefacts" / f"{key}{suffix}" for suffix in _SUFFIXES)
        return next((path for path in paths if os.path.lexists(path)), None)

    def save(self, key: str, value: Any) -> None:
        """Keep what a task hands over, a trace or arrays by name, whole or not at all.

        Raises WriteError, and then what was kept before is still there.
        """
        arrays = isinstance(value, dict)
        path = self.folder / "artefacts" / f"{key}{_ARRAYS if arrays else _TRACE}"
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        with writing(path):
            self._make_room(path.parent)
            try:
                (_write_arrays if arrays else _write_trace)(temporary, value, key)
                temporary.replace(path)
            finally:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            sync_folder(path.parent)

    def _make_room(self, folder: Path) -> None:
        self.damaged += clear([], [folder])
        folder.mkdir(parents=True, exist_ok=True)

    def keeps(self, key: str) -> bool:
        """Whether `load` will answer: a file that is damaged is set aside by this."""
        if self.artefact(key) is None:
            return False
        try:
            self.load(key)
        except DamagedError:
            return False
        return True

    def load(self, key: str) -> Any:
        """What `save` kept under a key. Raises DamagedError, after setting a bad file aside."""
        path = self.artefact(key)
        if path is None:
            raise DamagedError(f"nothing is kept under {key}")
        try:
            if wrong := stray(path):
                raise ValueError(f"it {wrong}")
            return _read_trace(path, key) if path.suffix == _TRACE else _read_arrays(path, key)
        except Exception as error:
            set_aside(path)
            self.damaged.append(f"artefacts/{path.name}")
            raise DamagedError(f"artefact {path.name} is damaged: {error}") from error


def _write_trace(path: Path, trace: Trace, key: str) -> None:
    from simulator.tracefile import write_trace

    write_trace(trace, path, {"key": key})


def _read_trace(path: Path, key: str) -> Trace:
    from simulator.tracefile import TraceFile

    with TraceFile(path) as file:
        _check_key(str(file.about.get("key")), key)
        return file.load()


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> None:
    own = {_NAMES: np.array(sorted(arrays), dtype=np.str_), _KEY: np.array(key)}
    with path.open("wb") as file:
        np.savez(file, **arrays, **own)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())


def _read_arrays(path: Path, key: str) -> dict[str, NDArray[Any]]:
    """The arrays; zip checks the bytes of each, but would not notice one that is gone."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    _check_key(str(arrays.pop(_KEY)), key)
    if arrays.pop(_NAMES).tolist() != sorted(arrays):
        raise ValueError("it does not hold the arrays that were written")
    return arrays


def _check_key(written: str, key: str) -> None:
    """A whole file may still be that of another task, under a wrong name."""
    if written != key:
        raise ValueError(f"it is what task {written} handed over")


def _line(record: Record) -> str:
    """A line of the journal: the record as JSON after a checksum of it."""
    body = json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))
    body = body.encode("utf-8", "backslashreplace").decode()  # half a character, as JSON has it
    return _HEAD % _checksum(body.encode()) + body + "}\n"


def _checksum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:8]


def _parse(line: bytes) -> Record | None:
    """The record of a journal line, or None if the line is not what was written."""
    head, body = line[:_HEAD_CHARS], line[_HEAD_CHARS:-1]
    if head != (_HEAD % _checksum(body)).encode() or line[-1:] != b"}":
        return None
    try:
        record = Record(**json.loads(body))
    except (ValueError, TypeError):
        return None
    return record if _sound(record) else None


def _sound(record: Record) -> bool:
    texts = (record.key, record.kind, record.label, record.error, record.log, record.worker)
    return (
        record.status in ("done", "failed")
        and all(isinstance(text, str) for text in texts)
        and isinstance(record.payload, dict)
        and isinstance(record.result, dict)
    )
