"""Round to nearest: the baseline of every quantiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import MethodError
from methods.static.quantiser import Quantiser

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RTN(Quantiser):
    """Each weight goes to the nearest point of its group's symmetric grid; needs no data."""

    name: ClassVar[str] = "rtn"
    allowed_bits: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)

    embeddings: int = 0
    """Bits that embedding and head are rounded to, in groups of the same size; 0 leaves them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.embeddings, bool) or self.embeddings not in (0, *self.allowed_bits):
            allowed = ", ".join(map(str, (0, *self.allowed_bits)))
            raise MethodError(
                f"embeddings {self.embeddings!r} of {self.name} are no bits that it has ({allowed})"
            )

    def parameters(self) -> dict[str, Any]:
        """Without `embeddings` where they are left alone, so that results of before are found."""
        return {k: v for k, v in super().parameters().items() if k != "embeddings" or v}

    @property
    def embedding_bits(self) -> int:
        return self.embeddings

    def quantised(self, weight: Tensor, statistic: Tensor | None, seed: int) -> Tensor:
        return self._rounded(weight, self.bits)

    def quantised_embedding(self, weight: Tensor) -> Tensor:
        return self._rounded(weight, self.embeddings)

    def _rounded(self, weight: Tensor, bits: int) -> Tensor:
        from methods.static.uniform import nearest, scales

        result = weight.clone()
        for group in result.split(self.group_size, dim=1):  # views [rows, group_size]
            group.copy_(nearest(group, scales(group, bits), bits))
        return result
