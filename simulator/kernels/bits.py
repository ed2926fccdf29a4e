"""Rows of bits and rows of bytes: bit `i % 64` of word `i // 64` is unit `i`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Int = int | np.integer[Any]

# byte of 8 mask bits -> 8 bytes of 0 or 1, lowest bit first
_SPREAD = (
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    .view(np.uint64)
    .reshape(256)
)
_GATHER = np.uint64(0x0102040810204080)  # multiplying collects 8 such bytes in the top byte
_TOP = np.uint64(56)


@intrinsic
def _ctpop(typingctx: Any, word: Any) -> Any:
    """Number of set bits of a uint64, as uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


popcount: Any = _ctpop


@njit(cache=True, nogil=True)
def spread(octets: NDArray[np.uint8], row: NDArray[np.uint64]) -> None:
    """Write mask bits, 8 units an octet, as bytes 0 or 1 into `row`, 8 bytes an item."""
    for i in range(octets.size):
        row[i] = _SPREAD[octets[i]]


@njit(cache=True, nogil=True)
def gather(row: NDArray[np.uint64], octets: NDArray[np.uint8]) -> None:
    """The inverse of `spread`."""
    for i in range(octets.size):
        octets[i] = np.uint8((row[i] * _GATHER) >> _TOP)


@njit(cache=True, nogil=True)
def count_bits(words: NDArray[np.uint64]) -> Int:
    """Number of set bits of a row of words."""
    total = np.uint64(0)
    for i in range(words.size):
        total += popcount(words[i])
    return np.int64(total)


@njit(cache=True, nogil=True)
def common(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> Int:
    """Number of bits that are set in both rows."""
    total = np.uint64(0)
    for i in range(first.size):
        total += popcount(first[i] & second[i])
    return np.int64(total)
