"""The uniform grid: b-bit signed integers times a 16-bit scale for each group of a row."""

from __future__ import annotations

from torch import Tensor

TINY = 6.0e-8  # the smallest 16-bit float above 0


def scales(group: Tensor, bits: int) -> Tensor:
    """Scale [rows, 1] of a group [rows, width], symmetric, as 16-bit floats hold it.

    s = max abs(w) / (2^(b-1) - 1/2): the grid from -2^(b-1) to 2^(b-1) - 1, half a step moved, has
    the range of the group in its middle.
    """
    widest = group.abs().amax(dim=1, keepdim=True)
    return (widest / (2 ** (bits - 1) - 0.5)).clamp(TINY, 65504.0).half().to(group.dtype)


def nearest(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The points of the grid next to `values` [rows, width]; halves go to the even integer."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return (values / scale).round().clamp(low, high) * scale
