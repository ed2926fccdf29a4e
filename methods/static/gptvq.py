"""GPTVQ: vector quantisation with errors carried on (van Baalen et al. 2024). The paper's "VQ"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import MethodError
from methods.static.quantiser import Quantiser, Statistic

if TYPE_CHECKING:
    from torch import Tensor

    from methods.static.propagation import Settle

DIMENSION = 2
SPAN = 256
"""Columns that share codebooks; a codebook serves some rows of one span."""
ENTRY_BITS, SCALE_BITS = 8, 16


@dataclass(frozen=True)
class GPTVQ(Quantiser):
    """Pairs of columns become entries of a codebook; columns to the right make up for the error.

    A codebook has 2^(2 bits) entries of two 8-bit numbers and one 16-bit scale. It serves as many
    weights as make it cost `16 / group_size` bits a weight, what the scales of a uniform quantiser
    with that group size cost. Codebooks are fitted by `iterations` rounds of k-means (EM) from a
    k-means++ start, with weights 1 / U_jj^2, just before their span is settled.
    """

    damping: float = 0.01
    iterations: int = 10
    calibration_windows: int = 128

    name: ClassVar[str] = "gptvq"
    allowed_bits: ClassVar[tuple[int, ...]] = (2, 3, 4)
    needs: ClassVar[Statistic] = "moments"
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.iterations, int) or self.iterations < 0:
            raise MethodError(f"iterations {self.iterations!r} of gptvq is no whole number")

    @property
    def entries(self) -> int:
        """Entries of a codebook."""
        return 2 ** (DIMENSION * self.bits)

    @property
    def weights_per_codebook(self) -> int:
        """Least number of weights that share a codebook, so that it costs what is counted."""
        codebook_bits = ENTRY_BITS * DIMENSION * self.entries + SCALE_BITS
        return -(-codebook_bits * self.group_size // 16)

    def quantised(self, weight: Tensor, statistic: Tensor | None, seed: int) -> Tensor:
        from methods.static.propagation import inverse_factor, propagated

        assert statistic is not None
        if weight.shape[1] % DIMENSION:
            raise MethodError(f"gptvq needs an even number of columns, not {weight.shape[1]}")
        factor = inverse_factor(statistic, self.damping).to(weight.dtype)
        settle = self._assignment(factor, seed)
        return propagated(weight, factor, settle, step=DIMENSION, block=SPAN)

    def _assignment(self, factor: Tensor, seed: int) -> Settle:
        from methods.static.codebook import codebooks_by_row
        from methods.static.propagation import scaled_errors

        books: Tensor | None = None  # [rows, entries, 2]

        def settle(column: int, rest: Tensor) -> Tensor:
            nonlocal books
            if column % SPAN == 0:
                importance = factor.diagonal()[column : column + rest.shape[1]] ** -2
                books = codebooks_by_row(self, rest, importance, seed)
            assert books is not None
            pair = slice(column, column + DIMENSION)
            errors = scaled_errors(rest[:, None, :DIMENSION] - books, factor[pair, pair])
            best = errors.square().sum(-1).argmin(1)  # [rows]; ties go to the lower entry
            return books.take_along_dim(best[:, None, None], dim=1)[:, 0]

        return settle
