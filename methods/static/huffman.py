"""bfloat16 with its exponents in a Huffman code: the format of DFloat11, written and read back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SYMBOLS = 256
CHUNK = 64
"""Bits of coded exponents that are decoded apart from the others."""
GAP = 5
"""Bits that tell where in a chunk the first code begins; hence codes have at most 32 bits."""
LONGEST = 2**GAP


@dataclass(frozen=True, slots=True)
class CodedMatrix:
    """A matrix of bfloat16, coded: what is stored of it, and how many weights it has."""

    weights: int
    rest: NDArray[np.uint8]
    """Sign and mantissa of each weight, [weights]."""
    lengths: NDArray[np.uint8]
    """Length of the code of each exponent, 0 for one that does not occur, [256]."""
    stream: NDArray[np.uint8]
    """The codes one after another, in whole chunks."""
    gaps: NDArray[np.uint8]
    """For each chunk, 5 bits."""

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(part.nbytes for part in (self.rest, self.lengths, self.stream, self.gaps))


def code_lengths(counts: Sequence[int]) -> NDArray[np.uint8]:
    """Lengths [256] of the Huffman code of symbols that occur so often, 32 at most.

    Where a code would be longer, counts are halved until none is. A lone symbol has a code of 1.
    """
    now = [int(count) for count in counts]
    while True:
        lengths = _lengths(now)
        if max(lengths) <= LONGEST:
            return np.array(lengths, np.uint8)
        now = [-(-count // 2) for count in now]


def _lengths(counts: Sequence[int]) -> list[int]:
    lengths = [0] * SYMBOLS
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (count, symbol, (symbol,)) for symbol, count in enumerate(counts) if count
    ]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (one, first, left), (other, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(heap, (one + other, first, (*left, *right)))
    return lengths


def entropy(counts: Sequence[int]) -> float:
    """Bits of information of a symbol."""
    shares = np.asarray([count for count in counts if count], np.float64)
    shares /= shares.sum()
    return float(-(shares * np.log2(shares)).sum())


def coded_bytes(counts: Sequence[int]) -> int:
    """Bytes of a coded matrix whose weights have these exponents."""
    bits = int(np.asarray(counts, np.int64) @ code_lengths(counts).astype(np.int64))
    chunks = -(-bits // CHUNK)
    return sum(counts) + SYMBOLS + chunks * CHUNK // 8 + -(-chunks * GAP // 8)


def exponents(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The exponent of each bfloat16, given as its bits."""
    return ((values >> 7) & 0xFF).astype(np.uint8)


def encoded(values: NDArray[np.uint16]) -> CodedMatrix:
    """The matrix whose weights, bits of bfloat16, are `values` in row-major order."""
    flat = values.reshape(-1)
    symbols = exponents(flat)
    lengths = code_lengths(np.bincount(symbols, minlength=SYMBOLS).tolist())
    of_each = lengths[symbols].astype(np.int64)
    begins = np.concatenate([[0], np.cumsum(of_each)])  # bit at which a code begins; last: the end
    chunks = -(-int(begins[-1]) // CHUNK)
    bits = np.zeros(chunks * CHUNK, np.uint8)
    place = np.arange(begins[-1]) - np.repeat(begins[:-1], of_each)
    shift = np.repeat(of_each, of_each) - 1 - place
    bits[: begins[-1]] = np.repeat(_codes(lengths)[symbols], of_each) >> shift.astype(np.uint64) & 1
    starts = np.arange(chunks) * CHUNK
    gaps = begins[np.searchsorted(begins, starts)] - starts
    rest = (flat >> 8 & 0x80 | flat & 0x7F).astype(np.uint8)
    return CodedMatrix(len(flat), rest, lengths, np.packbits(bits), _packed(gaps))


def decoded(coded: CodedMatrix) -> NDArray[np.uint16]:
    """The weights [weights] as bits of bfloat16: all chunks side by side, a code of each at a time,
    as threads of a GPU would."""
    chunks = len(coded.stream) * 8 // CHUNK
    order = np.lexsort((np.arange(SYMBOLS), coded.lengths))
    order = order[coded.lengths[order] > 0]  # by length, then symbol: so codes ascend
    lengths = coded.lengths[order].astype(np.uint64)
    firsts = _codes(coded.lengths)[order] << (LONGEST - lengths)  # left-aligned
    begins = np.arange(chunks) * CHUNK
    at, ends = begins + _unpacked(coded.gaps, chunks), begins + CHUNK
    padded = np.concatenate([coded.stream, np.zeros(8, np.uint8)]).astype(np.uint64)
    found: list[NDArray[np.uint8]] = []
    of_chunk: list[NDArray[np.int64]] = []
    running = np.arange(chunks)
    while len(running):
        code = np.searchsorted(firsts, _window(padded, at[running]), side="right") - 1
        found.append(order[code].astype(np.uint8))
        of_chunk.append(running)
        at[running] += lengths[code].astype(np.int64)
        running = running[at[running] < ends[running]]
    in_order = np.argsort(np.concatenate(of_chunk), kind="stable")
    symbols = np.concatenate(found)[in_order][: coded.weights].astype(np.uint16)
    rest = coded.rest.astype(np.uint16)
    return ((rest & 0x80) << 8 | symbols << 7 | rest & 0x7F).astype(np.uint16)


def _codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The canonical code of each symbol: shorter first, equal ones in the order of symbols."""
    codes = np.zeros(SYMBOLS, np.uint64)
    code, before = 0, 0
    for symbol in np.lexsort((np.arange(SYMBOLS), lengths)):
        length = int(lengths[symbol])
        if length:
            code <<= length - before
            codes[symbol], before = code, length
            code += 1
    return codes


def _window(stream: NDArray[np.uint64], at: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The 32 bits from each bit `at` on, as numbers."""
    first, word = at // 8, np.zeros(len(at), np.uint64)
    for i in range(5):
        word = word << np.uint64(8) | stream[first + i]
    return word >> (8 - at % 8).astype(np.uint64) & np.uint64(2**LONGEST - 1)


def _packed(gaps: NDArray[np.int64]) -> NDArray[np.uint8]:
    bits = gaps[:, None] >> np.arange(GAP - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8))


def _unpacked(packed: NDArray[np.uint8], chunks: int) -> NDArray[np.int64]:
    bits = np.unpackbits(packed)[: chunks * GAP].reshape(chunks, GAP).astype(np.int64)
    return bits @ (1 << np.arange(GAP - 1, -1, -1))
