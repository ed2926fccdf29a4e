"""What the matrices of safetensors files hold: zeros, patterns of zeros, exponents of bfloat16.

Unlike the other files of this room this one reads weights, a part of a matrix at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from methods.static.coded import BLOCKS, Matrix
from sweep.sizes.safetensors import Entry

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_AT_ONCE = 1 << 24
"""Weights that are held at a time; bounds memory, not the result."""


def contents(entries: Mapping[str, Entry]) -> dict[str, Matrix]:
    """By name, what each matrix of floats holds; tensors of other shapes and types are left out."""
    return {
        name: matrix(entry)
        for name, entry in entries.items()
        if entry.dtype in _TYPES and len(entry.shape) == 2 and all(entry.shape)
    }


def matrix(entry: Entry, rows: int | None = None) -> Matrix:
    """What a matrix holds, or its first `rows` rows."""
    length = entry.shape[1]
    count = min(rows or entry.shape[0], entry.shape[0])
    zeros, most = 0, [0 if length % size == 0 else None for size in BLOCKS]
    exponents = np.zeros(256, np.int64)
    coded = entry.dtype == "BF16"
    for values in _parts(entry, count):
        kept = (values & 0x7FFF) != 0 if coded else values != 0
        zeros += int(kept.size - np.count_nonzero(kept))
        for i, size in enumerate(BLOCKS):
            known = most[i]
            if known is not None:
                of_blocks = np.count_nonzero(kept.reshape(-1, size), axis=1)
                most[i] = max(known, int(of_blocks.max()))
        if coded:
            exponents += np.bincount((values.reshape(-1) >> 7) & 0xFF, minlength=256)
    told = tuple(exponents.tolist()) if coded else None
    return Matrix(count, length, zeros, tuple(most), told)


def _parts(entry: Entry, rows: int) -> Iterator[NDArray[Any]]:
    """Some rows after the others, as numbers; bfloat16 as its bits."""
    kind = np.dtype(_TYPES[entry.dtype])
    length = entry.shape[1]
    step = max(1, _AT_ONCE // length)
    with entry.path.open("rb") as file:
        file.seek(entry.start)
        for first in range(0, rows, step):
            count = min(step, rows - first) * length
            yield np.frombuffer(file.read(count * kind.itemsize), kind).reshape(-1, length)
