"""Dense rows whose weights are stored in a code of their own; nothing that is computed changes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from methods.dynamic.dense import Dense

BLOCKS = (4, 8)
"""Neighbours of a row of which a code of n:m tells those that are not 0."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """What the files of a model hold in a matrix [rows, length]."""

    rows: int
    length: int
    zeros: int
    """Weights that are exactly 0."""
    most: tuple[int | None, ...]
    """For each size of `BLOCKS` the most weights of a block that are not 0; None where a row is no
    whole number of blocks."""
    exponents: tuple[int, ...] | None
    """Of bfloat16, how many weights have each of the 256 exponents; None of other types."""

    @property
    def weights(self) -> int:
        return self.rows * self.length

    @property
    def kept(self) -> float:
        """Share of the weights that are not 0."""
        return 1 - self.zeros / self.weights


@dataclass(frozen=True)
class Coded(Dense):
    """The dense model: a code says how its weights lie in Flash, and every token reads them all."""

    whole: ClassVar[bool] = True
    """Whether embedding and head are in this code too, or the decoder's linear layers alone."""

    @classmethod
    @abstractmethod
    def refusal(cls, quantiser: str, of_file: bool) -> str:
        """Why weights that this quantisation stores cannot be in the code; empty if they can."""

    @abstractmethod
    def matrix_bytes(self, matrix: Matrix, dense: float) -> float:
        """Bytes of a matrix that takes `dense` bytes with every weight stored alike.

        Raises MethodError for a matrix that the code is not made for.
        """
