"""Codes of matrices that arrive sparse: bits of each, and the smallest of them."""

from __future__ import annotations

import pytest

import methods
from methods.static.coded import Matrix
from methods.static.packed import Packed


def packed() -> Packed:
    method = methods.create("packed", 1.0)
    assert isinstance(method, Packed)
    return method


def matrix(sparsity: float, most: tuple[int | None, int | None] = (4, 8)) -> Matrix:
    return Matrix(64, 100, round(6400 * sparsity), most, None)


def bits(made: Matrix, dense_bits: float) -> tuple[str, float]:
    dense = dense_bits * made.weights / 8
    return packed().code(made, dense), 8 * packed().matrix_bytes(made, dense) / made.weights


@pytest.mark.parametrize(
    ("sparsity", "dense", "code", "expected"),
    [
        (0.5, 4, "bitmask", 3.0),  # saves 25 %
        (0.7, 4, "bitmask", 2.2),  # saves 45 %
        (0.7, 8, "bitmask", 3.4),  # saves 57 %
        (0.5, 16, "bitmask", 9.0),
        (0.2, 4, "dense", 4.0),
        (0.25, 4, "dense", 4.0),
        (0.0, 16, "dense", 16.0),
    ],
)
def test_unstructured_zeros_take_a_bit_where_that_pays(
    sparsity: float, dense: float, code: str, expected: float
) -> None:
    found, made = bits(matrix(sparsity), dense)
    assert found == code
    assert made == pytest.approx(expected)


@pytest.mark.parametrize("dense", [4, 8, 16])
@pytest.mark.parametrize(
    ("sparsity", "most", "code", "of"),
    [
        (0.5, (2, 4), "2:4", lambda b: b / 2 + 1),
        (0.75, (1, 2), "1:4", lambda b: (b + 2) / 4),
        (0.5, (3, 4), "bitmask", lambda b: 1 + b / 2),
        (0.875, (1, 1), "1:8", lambda b: (b + 3) / 8),
        (0.5, (None, 4), "bitmask", lambda b: 1 + b / 2),
        (1.0, (0, 0), "0:4", lambda b: 0),
    ],
)
def test_blocks_have_the_code_of_their_pattern_where_it_is_smallest(
    sparsity: float, most: tuple[int | None, int | None], code: str, of: object, dense: int
) -> None:
    found, made = bits(matrix(sparsity, most), dense)
    assert found == code
    assert made == pytest.approx(of(dense))  # type: ignore[operator]


def test_only_rounding_that_leaves_zeros_alone_goes_before_it() -> None:
    assert Packed.refusal("none", False) == Packed.refusal("rtn", False) == ""
    assert "gptq moves weights away from 0" in Packed.refusal("gptq", False)
