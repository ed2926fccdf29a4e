"""What a task hands over, as a file that holds its own key: a trace, or arrays by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simulator.trace import Trace

ARRAYS, TRACE = ".npz", ".trace"
SUFFIXES = (ARRAYS, TRACE)
_NAMES = "__names__"
"""Among the arrays of a file, the names of the others."""
_KEY = "__key__"
"""Among the arrays of a file, the key that it was written under."""


def suffix_of(value: Any) -> str:
    """Of the file that keeps this hand-over."""
    return ARRAYS if isinstance(value, dict) else TRACE


def write(path: Path, value: Any, key: str) -> None:
    """Write a hand-over under a key; raises OSError."""
    if isinstance(value, dict):
        _write_arrays(path, value, key)
    else:
        _write_trace(path, value, key)


def read(path: Path, key: str) -> Any:
    """What was written under the key. Raises whatever a file that is not whole makes its reader
    raise, and ValueError for a whole file of another key."""
    return _read_trace(path, key) if path.suffix == TRACE else _read_arrays(path, key)


def _write_trace(path: Path, trace: Trace, key: str) -> None:
    from simulator.tracefile import write_trace

    write_trace(trace, path, {"key": key})


def _read_trace(path: Path, key: str) -> Trace:
    from simulator.tracefile import TraceFile

    with TraceFile(path) as file:
        _check_key(str(file.about.get("key")), key)
        return file.load()


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]], key: str) -> None:
    labels = {_NAMES: np.array(sorted(arrays), dtype=np.str_), _KEY: np.array(key)}
    with path.open("wb") as file:
        np.savez(file, **arrays, **labels)  # type: ignore[arg-type]
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
