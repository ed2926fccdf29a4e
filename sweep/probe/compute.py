"""The weight bytes that the processor can use in a second: sparse products of 4-bit weights.

The kernel is the one that decoding with a pruned MLP spends its time in, y += Σ x_i · W[i] over
the chosen units i. Weights are blocks of 32 codes of 4 bits with a scale of float32 (20 bytes a
block; llama.cpp's Q4_0 has 18), a row a unit, so that a chosen unit is one run of bytes. It is
compiled by numba, which leaves Python's lock alone, and runs in threads over units. Every other
unit on average is chosen, from a matrix that no cache holds: the bytes come from DRAM, and the
rate is what DRAM and the arithmetic give together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numba import njit

from sweep.probe.grid import MIB
from sweep.probe.memory import Rate, fitting, rate_of

BLOCK = 32
"""Weights that share a scale: codes 0 to 15 are the low halves of its bytes, 16 to 31 the high."""
WIDTH = 4096
DENSITY = 0.5
BYTES = 160 * MIB
_ROW_BYTES = WIDTH // 2 + WIDTH // BLOCK * 4


@njit(nogil=True, fastmath=True)
def add_rows(codes, scales, chosen, x, y):  # type: ignore[no-untyped-def]
    """y [width] += x [chosen] · weights of the chosen rows; codes uint8 [units, width / 2], scales
    float32 [units, width / 32]. Weight = (code - 8) · scale."""
    half = BLOCK // 2
    for i in range(chosen.size):
        row_codes, row_scales = codes[chosen[i]], scales[chosen[i]]
        for block in range(row_scales.size):
            factor = row_scales[block] * x[i]
            for j in range(half):
                code = row_codes[block * half + j]
                low, high = np.int32(code & 15) - 8, np.int32(code >> 4) - 8
                y[block * BLOCK + j] += factor * np.float32(low)
                y[block * BLOCK + half + j] += factor * np.float32(high)


def weights(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The matrix that `add_rows` multiplies, float32 [units, width], in plain numpy."""
    half = BLOCK // 2
    blocks = codes.reshape(len(codes), -1, half).astype(np.int32)
    both = np.concatenate([(blocks & 15) - 8, (blocks >> 4) - 8], axis=2)
    return (both * scales[:, :, None]).reshape(len(codes), -1).astype(np.float32)


def measure(seconds: float, threads: Sequence[int], size: int = BYTES, seed: int = 1) -> list[Rate]:
    """Weight bytes used a second, for each number of threads."""
    units = max(fitting(size) // _ROW_BYTES, 2 * max(threads))
    draw = np.random.default_rng(seed)
    codes = draw.integers(0, 256, (units, WIDTH // 2), dtype=np.uint8)
    scales = draw.random((units, WIDTH // BLOCK), dtype=np.float32)
    chosen = np.sort(draw.permutation(units)[: int(units * DENSITY)])
    x = draw.random(len(chosen), dtype=np.float32)
    add_rows(codes, scales, chosen[:1], x[:1], np.zeros(WIDTH, np.float32))  # compiled here
    rates = []
    for count in threads:
        parts = zip(np.array_split(chosen, count), np.array_split(x, count), strict=True)
        works = [
            partial(add_rows, codes, scales, part, x_part, np.zeros(WIDTH, np.float32))
            for part, x_part in parts
        ]
        used = len(chosen) * _ROW_BYTES
        rates.append(rate_of("compute", works, used, seconds / len(threads)))
    return rates
