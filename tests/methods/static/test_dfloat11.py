"""DFloat11: written and read back bit for bit, in exactly the bytes that are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import methods
from methods.base import MethodError
from methods.static.coded import Matrix
from methods.static.dfloat11 import DFloat11
from methods.static.huffman import (
    CHUNK,
    LONGEST,
    code_lengths,
    coded_bytes,
    decoded,
    encoded,
    entropy,
    exponents,
)


def bfloat16(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """The bits of values rounded to bfloat16."""
    return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()


def normal(*shape: int, deviation: float = 0.02) -> NDArray[np.uint16]:
    return bfloat16(np.random.default_rng(0).normal(0, deviation, shape))


def counts_of(values: NDArray[np.uint16]) -> list[int]:
    return np.bincount(exponents(values).reshape(-1), minlength=256).tolist()


EVERY = np.arange(65536).astype(np.uint16)
CASES = {
    "normal": normal(96, 257),
    "every number that there is": EVERY,
    "one weight": normal(1, 1),
    "one exponent": bfloat16(np.linspace(1, 1.9, 500)),
    "two exponents": bfloat16(np.linspace(1, 3.9, 501)),
    "mostly zeros": normal(64, 64) * (np.random.default_rng(1).random((64, 64)) < 0.1),
    "skewed": np.repeat(EVERY[::128], np.maximum(1, 2 ** (np.arange(512) % 12))),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_read_back_bit_for_bit_in_the_bytes_counted(name: str) -> None:
    values = CASES[name].astype(np.uint16)
    coded = encoded(values)
    assert np.array_equal(decoded(coded), values.reshape(-1))
    assert coded.nbytes == coded_bytes(counts_of(values))


def test_codes_are_optimal_and_decodable() -> None:
    """Kraft's equality, and no more than a bit above the entropy; a plain tree agrees."""
    counts = counts_of(normal(300, 400))
    lengths = code_lengths(counts)
    used = lengths[lengths > 0].astype(float)
    assert (2.0**-used).sum() == 1
    mean = np.asarray(counts) @ lengths / sum(counts)
    assert entropy(counts) <= mean < entropy(counts) + 0.1
    assert mean == pytest.approx(plain_mean(counts))


def plain_mean(counts: list[int]) -> float:
    """Sum of the inner nodes of a Huffman tree over the sum of its leaves."""
    nodes, inner = sorted(count for count in counts if count), 0
    while len(nodes) > 1:
        joined = nodes[0] + nodes[1]
        nodes = sorted([*nodes[2:], joined])
        inner += joined
    return inner / sum(counts)


def test_codes_have_32_bits_at_most_and_are_still_read_back() -> None:
    """Counts as Fibonacci's numbers make the longest codes that there are."""
    numbers = [1, 1]
    while len(numbers) < 60:
        numbers.append(numbers[-1] + numbers[-2])
    lengths = code_lengths([*numbers, *[0] * 196])
    assert lengths.max() <= LONGEST
    assert (2.0 ** -lengths[:60].astype(float)).sum() == 1
    few = np.repeat(np.arange(22) << 7, numbers[:22]).astype(np.uint16)
    assert encoded(few).lengths.max() > 16
    assert np.array_equal(decoded(encoded(few)), few)


def test_bits_are_those_of_the_source() -> None:
    """8 + mean length (1 + 5/64) and the table; N(0, 0.02) as models have it."""
    values = normal(576, 1536)
    counts = counts_of(values)
    mean = float(np.asarray(counts) @ code_lengths(counts) / values.size)
    bits = 8 * coded_bytes(counts) / values.size
    assert 2.4 <= entropy(counts) <= 3.0
    assert bits == pytest.approx(8 + mean * (1 + 5 / CHUNK) + 8 * 256 / values.size, abs=1e-3)
    assert 0.66 <= bits / 16 <= 0.71


def test_it_counts_bfloat16_of_the_file_alone() -> None:
    method = methods.create("dfloat11", 1.0)
    assert isinstance(method, DFloat11)
    values = normal(40, 64)
    counts = tuple(counts_of(values))
    matrix = Matrix(40, 64, 0, (4, 8), counts)
    assert method.matrix_bytes(matrix, 2 * 40 * 64) == encoded(values).nbytes
    with pytest.raises(MethodError, match="bfloat16 weights alone"):
        method.matrix_bytes(Matrix(40, 64, 0, (4, 8), None), 0)
    assert DFloat11.refusal("none", True) == ""
    assert "gptq changes them" in DFloat11.refusal("gptq", False)
    assert "counts other bits" in DFloat11.refusal("none", False)
    with pytest.raises(MethodError, match="out of reach of dfloat11"):
        methods.create("dfloat11", 0.5)
