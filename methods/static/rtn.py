"""Round to nearest: the baseline of every quantiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.static.quantiser import Quantiser

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RTN(Quantiser):
    """Each weight goes to the nearest point of its group's symmetric grid; needs no data."""

    name: ClassVar[str] = "rtn"
    allowed_bits: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)

    def quantised(self, weight: Tensor, statistic: Tensor | None, seed: int) -> Tensor:
        from methods.static.uniform import nearest, scales

        result = weight.clone()
        for group in result.split(self.group_size, dim=1):  # views [rows, group_size]
            group.copy_(nearest(group, scales(group, self.bits), self.bits))
        return result
