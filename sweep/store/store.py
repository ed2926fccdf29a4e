"""The store: one journal, one writer (the driver), artefacts beside it.

`journal.jsonl` gets one line per task that ended, fsynced, with a checksum of its own. The last
line of a key counts. Lines that cannot be trusted are set aside in `journal.damaged`, named, and
their tasks are missing again.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import filelock

from sweep.errors import InputError, ResourceError, StoreLockedError, SweepError
from sweep.files.atomic import (
    FULL,
    NO_LOCKS,
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
from sweep.store import artefacts, journal
from sweep.tasks.task import Record


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
        record = journal.parse(line)
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
            if error.errno in NO_LOCKS:
                raise ResourceError(
                    f"the file system of {self.folder} has no file locks ({error.strerror}), which "
                    "keep two runs from writing at once: put --out (or --store) on another"
                ) from None
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
        if not path.exists():  # nobody; and asking for the lock would make the folder
            return ""
        try:
            with self._lock.acquire(timeout=0):
                return ""
        except filelock.Timeout:
            return path.read_text().strip() or "another process"
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
        good = [line for line in lines if journal.parse(line) is not None]
        bad = [line for line in lines if journal.parse(line) is None]
        if bad:
            with (self.folder / "journal.damaged").open("ab") as aside:
                aside.write(b"\n".join(bad) + b"\n")
        replace(self.journal, b"".join(line + b"\n" for line in good))

    def add(self, record: Record) -> None:
        """Keep a record for good: on return it is on the disk. Raises WriteError."""
        if self._file is None:
            raise RuntimeError("the store is not open for writing")
        with writing(self.journal):
            append(self._file.fileno(), journal.line(record))
        self._keep(record)

    def lines(self) -> int:
        """Lines of the journal, superseded ones included."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def rewrite(self, keep: set[str]) -> None:
        """Write the journal anew with one line for each record in `keep`."""
        if self._file is None:
            raise RuntimeError("the store is not open for writing")
        self.records = {key: record for key, record in self.records.items() if key in keep}
        replace(self.journal, b"".join(map(journal.line, self.records.values())))
        self._file.close()
        self._file = self.journal.open("ab", buffering=0)

    # -- artefacts ---------------------------------------------------------------------------

    def artefact(self, key: str) -> Path | None:
        """Where what a task handed over is kept, if it is."""
        paths = (self.folder / "artefacts" / f"{key}{suffix}" for suffix in artefacts.SUFFIXES)
        return next((path for path in paths if os.path.lexists(path)), None)

    def save(self, key: str, value: Any) -> None:
        """Keep what a task hands over, a trace or arrays by name, whole or not at all.

        Raises WriteError, and then what was kept before is still there.
        """
        path = self.folder / "artefacts" / f"{key}{artefacts.suffix_of(value)}"
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        with writing(path):
            self._make_room(path.parent)
            try:
                artefacts.write(temporary, value, key)
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
            return artefacts.read(path, key)
        except Exception as error:
            set_aside(path)
            self.damaged.append(f"artefacts/{path.name}")
            raise DamagedError(f"artefact {path.name} is damaged: {error}") from error
