"""Stores for trials: records and hand-overs to write, and a folder that is gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator import Trace
from sweep.contracts.rules import equal, need
from sweep.store.store import Store
from sweep.tasks.task import Record

Factory: TypeAlias = Callable[[Path], Store]


def example(key: str = "0123456789abcdef", **fields: Any) -> Record:
    """A record of a task that ended well."""
    result = {"nll": [1.25], "tokens": 3}
    base = Record(key, "evaluate", f"label of {key}", "done", {"windows": [0]}, result)
    return replace(base, **fields)


def arrays() -> dict[str, NDArray[Any]]:
    """Arrays by name, as a calibration or a training hands them over."""
    return {"input": np.arange(12).reshape(3, 4), "a.weight": np.array([1.5], np.float32)}


def trace() -> Trace:
    """A trace of 2 layers and windows of 5 and 3 tokens."""
    masks, random = Trace.empty({"input": 70}, 2, [5, 3]), np.random.default_rng(0)
    for layer in range(2):
        for window, tokens in enumerate((5, 3)):
            masks.add(layer, "input", random.random((tokens, 70)) < 0.4, window)
    return masks


HANDED_OVER: tuple[Callable[[], Any], ...] = (arrays, trace)


def same(a: Any, b: Any) -> bool:
    """Whether two values that tasks hand over are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)
    return type(a) is type(b) and a == b


@dataclass(frozen=True, slots=True)
class Trial:
    """A folder in which stores are opened."""

    make: Factory
    folder: Path

    def read(self) -> Store:
        return self.make(self.folder)

    def fill(self, *records: Record) -> None:
        """Open the store for writing, as every run does, and add these."""
        with self.read() as store:
            for record in records:
                store.add(record)

    def keeps(self, *records: Record) -> None:
        """ContractError unless these are all that it keeps, and nothing is damaged."""
        store = self.read()
        equal(store.records, {record.key: record for record in records}, "what is read again")
        equal(store.damaged, [], "what is damaged")


@contextmanager
def trial(make: Factory, *records: Record) -> Iterator[Trial]:
    """A store of these records."""
    with tempfile.TemporaryDirectory() as folder:
        on = Trial(make, Path(folder) / "store")
        if records:
            on.fill(*records)
        yield on


def saved(on: Trial, key: str, value: Any) -> Path:
    """Where the store keeps a value that it is given here."""
    with on.read() as store:
        store.save(key, value)
        path = store.artefact(key)
    need(path is not None, f"`artefact` does not say where {key} is kept")
    assert path is not None
    return path
