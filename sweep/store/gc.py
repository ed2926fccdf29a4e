"""Make a store smaller: what no sweep needs any more, and what broken runs left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sweep.store.store import Store
from sweep.store.traces import trace_files


@dataclass(frozen=True, slots=True)
class Tidied:
    """What `gc` removed, or would."""

    records: int
    files: int
    freed_bytes: int


def gc(
    store: Store, keep: Iterable[str] | None = None, dry_run: bool = False, traces: bool = False
) -> Tidied:
    """Drop artefacts without a record, leftovers, and superseded lines of the journal.

    With `keep`, records of other keys go too; with `traces`, all traces. The store must be open
    for writing.
    """
    keys = set(store.records) if keep is None else set(keep) & set(store.records)
    files = list(_useless_files(store.folder, keys))
    files += [path for path in trace_files(store.folder) if traces and path not in files]
    freed = sum(path.lstat().st_size for path in files)
    lines = store.lines()
    if not dry_run:
        for path in files:
            _remove(path)
        store.rewrite(keys)
    return Tidied(lines - len(keys), len(files), freed)


def _remove(path: Path) -> None:
    """A file, or a folder that stood in the place of one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _useless_files(folder: Path, keys: set[str]) -> Iterable[Path]:
    artefacts = folder / "artefacts"
    if artefacts.is_dir():
        for path in sorted(artefacts.iterdir()):
            if path.name.startswith(".") or path.stem not in keys or path.suffix == ".damaged":
                yield path
    yield from sorted(folder.glob("*.damaged"))
    yield from sorted(folder.glob(".*.tmp"))
