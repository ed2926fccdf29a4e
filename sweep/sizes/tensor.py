"""A tensor as the head of its file describes it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from sweep.errors import InputError


class SizesError(InputError):
    """The tensors of a model are not those of a decoder whose sizes can be told."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A weight by its name: `shape` is (rows, length of a row) of a matrix, as torch has it,
    unpacked where the file packs it; `bytes` is what the file takes for it, scales included."""

    name: str
    shape: tuple[int, ...]
    bytes: float

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return prod(self.shape)

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def length(self) -> int:
        """Weights of a row."""
        return self.shape[1]
