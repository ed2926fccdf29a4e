"""`sweep logs`: what tasks wrote, by key, and which of a run failed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.errors import InputError
from sweep.files.cache import training_dir
from sweep.store.store import Store
from sweep.tasks.task import Record

DEFAULT = Path("runs/demo")
_KEY = re.compile(r"[0-9a-f]{1,64}")


def lines(what: Sequence[str], store: Path | None = None) -> Iterator[str]:
    """What the tasks wrote whose keys begin as one of `what`; a folder among them is the store.

    Without a key: every failed task of the store. Raises InputError for a key that no task has.
    """
    folders = [Path(text) for text in what if not _KEY.fullmatch(text) or Path(text).is_dir()]
    if len(folders) + (store is not None) > 1:
        raise InputError(f"one store or run folder is looked into; {len(what)} names are given")
    folder = store or (folders[0] if folders else DEFAULT)
    keys = [text for text in what if Path(text) not in folders]
    if not folder.is_dir():
        form = "a key is of the digits 0-9 and a-f"
        raise InputError(f"{folder} is no folder of a run or store, and no key ({form})")
    records = Store(_store_of(folder)).records
    if not keys:
        yield from _failed(folder, records)
    for key in keys:
        yield from _of_key(key, folder, records)


def _store_of(folder: Path) -> Path:
    """The store of a run folder, which may be another one."""
    try:
        return Path(json.loads((folder / "plan.json").read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder


def _failed(folder: Path, records: dict[str, Record]) -> Iterator[str]:
    failed = [record for record in records.values() if record.status == "failed"]
    if not failed:
        yield f"{folder}: no task failed; give the key of one to see what it wrote"
    for record in failed:
        yield f"{record.key} {record.kind}: {record.label}: {record.error}"


def _of_key(key: str, folder: Path, records: dict[str, Record]) -> Iterator[str]:
    running = sorted(training_dir().glob(f"{key}*.log"))
    for path in running:  # a training that has not ended, or was killed
        yield f"{path.stem} train: not ended"
        yield path.read_text(encoding="utf-8").rstrip()
    matching = [record for k, record in records.items() if k.startswith(key)]
    if not matching and not running:
        raise InputError(f"{folder} has no record of a task {key!r}")
    for record in matching:
        yield f"{record.key} {record.kind}: {record.label}"
        yield f"{record.status} in {record.seconds:g} s on {record.worker or 'no worker'}"
        yield from (text.rstrip() for text in (record.error, record.log) if text)
