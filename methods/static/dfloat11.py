"""DFloat11: bfloat16 weights with coded exponents (Zhang et al. 2025, arXiv 2504.11651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from methods.base import MethodError
from methods.static.coded import Coded, Matrix


@dataclass(frozen=True)
class DFloat11(Coded):
    """The dense model, its bfloat16 weights lossless in about 11 bits: exponents are Huffman-coded.

    A weight is 1 bit of sign, 8 of exponent, 7 of mantissa. For each matrix, with the Huffman code
    of its exponents, the bytes are exactly those that `methods.static.huffman` writes:

        signs and mantissas   1 byte a weight
        exponents             sum over weights of the length of their code, in chunks of 64 bits
        gaps                  5 bits a chunk: where the first code that begins in it begins
        table                 256 bytes: the length of the code of each exponent

    so a weight takes 8 + mean length (1 + 5/64) bits and its part of the table. Each chunk can be
    decoded apart, but a weight cannot be found in it: the whole matrix is read and decoded. Weights
    come out as they were, bit for bit, and so does the perplexity.
    """

    name: ClassVar[str] = "dfloat11"

    @classmethod
    def refusal(cls, quantiser: str, of_file: bool) -> str:
        if quantiser == "none" and of_file:
            return ""
        before = "changes them" if quantiser != "none" else "counts other bits"
        how = f"{quantiser} {before}" if quantiser != "none" else f"the quantisation {before}"
        return (
            f"dfloat11 codes bfloat16 weights as the model's files have them, and {how}; "
            "quant: [{method: none, bits: file}] goes with it"
        )

    def matrix_bytes(self, matrix: Matrix, dense: float) -> float:
        from methods.static.huffman import coded_bytes

        if matrix.exponents is None:
            raise MethodError(
                "dfloat11 codes bfloat16 weights alone, and these are of another type"
            )
        return coded_bytes(matrix.exponents)
