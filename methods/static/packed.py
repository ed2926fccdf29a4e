"""Weights that arrive sparse: zeros of the model's files are not stored (arXiv 2405.03594, 2.9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from methods.static.coded import BLOCKS, Coded, Matrix


@dataclass(frozen=True)
class Packed(Coded):
    """The dense model on weights that arrive sparse: each matrix in the smallest of three codes.

    With b bits a weight, scales included, and a share s of zeros, a weight takes

        dense     b
        bitmask   1 + (1 - s) b           a bit for each weight, then those that are not 0
        n:m       n/m (b + log2 m)        where no m neighbours have more than n: 2:4 is b/2 + 1

    A matrix is read from its beginning to its end, so these are static bytes. Only rounding that
    leaves zeros alone goes before it. Linear layers of the decoder are coded; embedding and head
    are as the quantisation counts them.
    """

    name: ClassVar[str] = "packed"
    whole: ClassVar[bool] = False

    @classmethod
    def refusal(cls, quantiser: str, of_file: bool) -> str:
        if quantiser in ("none", "rtn"):
            return ""
        return f"packed stores no zeros, and {quantiser} moves weights away from 0; rtn does not"

    def matrix_bytes(self, matrix: Matrix, dense: float) -> float:
        return min(size for _, size in self.codes(matrix, dense))

    def code(self, matrix: Matrix, dense: float) -> str:
        """The name of the smallest code; of equals the simplest."""
        return min(self.codes(matrix, dense), key=lambda code: code[1])[0]

    def codes(self, matrix: Matrix, dense: float) -> Iterator[tuple[str, float]]:
        """Every code that fits, with its bytes."""
        bits, weights = 8 * dense / matrix.weights, matrix.weights
        yield "dense", dense
        for size, most in zip(BLOCKS, matrix.most, strict=True):
            if most is not None and most < size:
                index = size.bit_length() - 1  # log2
                yield f"{most}:{size}", weights * most / size * (bits + index) / 8
        yield "bitmask", weights * (1 + matrix.kept * bits) / 8
