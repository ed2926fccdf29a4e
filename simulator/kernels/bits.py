"""Rows of bits and rows of bytes: bit `i % 64` of word `i // 64` is unit `i`."""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

# byte of 8 mask bits -> 8 bytes of 0 or 1, lowest bit first
_SPREAD = (
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    .view(np.uint64)
    .reshape(256)
)
_GATHER = np.uint64(0x0102040810204080)  # multiplying collects 8 such bytes in the top byte
_TOP = np.uint64(56)


@intrinsic
def popcount(typingctx, word):  # noqa: ANN001, ANN201 - called by the compiler
    """Number of set bits of a uint64, as uint64."""

    def codegen(context, builder, signature, args):  # noqa: ANN001, ANN202
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@njit(cache=True, nogil=True)
def spread(bits, row):  # noqa: ANN001, ANN201
    """Write the mask bits `uint8 [units / 8]` as bytes 0 or 1 into `row`, 8 bytes an item."""
    for i in range(bits.size):
        row[i] = _SPREAD[bits[i]]


@njit(cache=True, nogil=True)
def gather(row, bits):  # noqa: ANN001, ANN201
    """The inverse of `spread`."""
    for i in range(bits.size):
        bits[i] = np.uint8((row[i] * _GATHER) >> _TOP)


@njit(cache=True, nogil=True)
def count_bits(words):  # noqa: ANN001, ANN201
    """Number of set bits of a row of words."""
    total = np.uint64(0)
    for i in range(words.size):
        total += popcount(words[i])
    return np.int64(total)
