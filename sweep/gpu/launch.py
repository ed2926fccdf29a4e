"""The Triton kernels as functions of tensors: grids, sizes of blocks, and room for results.

Only imported where Triton is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweep.gpu import kernels, scans
from sweep.gpu.state import Caches

_kernels: Any = kernels
_scans: Any = scans

MOST_UNITS = 1 << 17
"""A unit's number has 17 bits beside what else a fault says."""
_ROWS = 16
"""Rows of a program of top-k: the search in each begins where the last one ended."""
_SHIFT = {torch.float32: 0, torch.bfloat16: 16, torch.float16: 13}
"""Low bits of a value as float32 that are 0 for every value of the type."""
_NO_FAULT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a row of units lies in a program: two powers of two, and warps."""

    head: int
    tail: int
    warps: int

    @classmethod
    def of(cls, units: int, warps: int = 0) -> Blocks:
        """The smallest sum of two powers of two that has room; one where that is no larger."""
        head = 1 << max(4, (units - 1).bit_length())
        tail = 0
        half = head // 2
        if units > half >= 32:
            rest = 1 << max(4, (units - half - 1).bit_length())
            if rest < half:
                head, tail = half, rest
        return cls(head, tail, warps or min(16, max(1, head // 512)))


def new_faults(device: torch.device) -> Tensor:
    """Where kernels keep the first value that is not finite."""
    return torch.full((1,), _NO_FAULT, dtype=torch.int64, device=device)


def read_fault(faults: Tensor) -> tuple[int, int, int, bool] | None:
    """Call, row, unit and whether it is NaN of the first fault; None where there is none."""
    code = int(faults[0])
    if code == _NO_FAULT:
        return None
    place, unit = divmod(code, 1 << 21)
    return place >> 20, place % (1 << 20), unit >> 1, bool(unit & 1)


def top_k(
    values: Tensor, k: int, magnitude: bool, faults: Tensor, call: int = 0, **options: Any
) -> Tensor:
    """Bool `[..., units]`: the k largest of each row, or of their magnitudes."""
    masks = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    _top_k(values, k, magnitude, faults, call, masks, None, **options)
    return masks.view(torch.bool)


def bars(values: Tensor, k: int, faults: Tensor, call: int = 0) -> Tensor:
    """Int32 `[...]`: bits of the k-th largest magnitude of each row."""
    found = torch.empty(values.shape[:-1], dtype=torch.int32, device=values.device)
    _top_k(values, k, True, faults, call, None, found)
    return found


def cache_aware(
    values: Tensor,
    k: int,
    gamma: float,
    caches: Caches,
    faults: Tensor,
    call: int = 0,
    blocks: Blocks | None = None,
    passes: Tensor | None = None,
    compiled: list[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 for contiguous values `[sequences, tokens, units]`: masks bool and hits int64.

    `passes` int32 `[sequences, 2]` gets how often both searches have looked at a row, and
    `compiled` what ran.
    """
    sequences, tokens, units = values.shape
    blocks = blocks or Blocks.of(units)
    masks = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    hits = torch.empty((sequences, tokens), dtype=torch.int64, device=values.device)
    if passes is None:
        passes = torch.empty((sequences, 2), dtype=torch.int32, device=values.device)
    if not masks.numel():
        return masks.view(torch.bool), hits
    levels = bars(values, k, faults, call)
    shape = {"HEAD": blocks.head, "TAIL": blocks.tail, "SNAP": 1 << _SHIFT[values.dtype]}
    if values.dtype == torch.float32:
        shape["SNAP"] = 0
    end = (passes, masks, hits, k, caches.capacity, gamma, tokens)
    if caches.policy == "lfu":
        ran = _scans.lfu_scan[(sequences,)](
            values, levels, caches.states, *end, caches.tokens, units=units,
            TIGHT=caches.capacity <= k, num_warps=blocks.warps, **shape,
        )  # fmt: skip
    else:
        scratch = torch.empty((sequences, 2, units), dtype=torch.int32, device=values.device)
        ran = _scans.lru_scan[(sequences,)](
            values, levels, caches.states, caches.seen, scratch, *end, units=units,
            num_warps=blocks.warps, **shape,
        )  # fmt: skip
    if compiled is not None:
        compiled.append(ran)
    caches.tokens += tokens
    return masks.view(torch.bool), hits


def packed(masks: Tensor) -> Tensor:
    """Masks bool `[..., units]` as int64 `[..., words]`: bit i % 64 of word i // 64 is unit i."""
    units = masks.shape[-1]
    rows, words = masks.numel() // units, 2 * -(-units // 64)
    bits = torch.empty((*masks.shape[:-1], words), dtype=torch.int32, device=masks.device)
    block = 64
    grid = (-(-rows * words // block),)
    _kernels.pack_bits[grid](
        masks.contiguous().view(torch.uint8), bits, rows, units=units, WORDS=words, BLOCK=block
    )
    return bits.view(torch.int64)


def _top_k(
    values: Tensor,
    k: int,
    magnitude: bool,
    faults: Tensor,
    call: int,
    masks: Tensor | None,
    found: Tensor | None,
    blocks: Blocks | None = None,
    rows_each: int = _ROWS,
    compiled: list[Any] | None = None,
) -> None:
    units = values.shape[-1]
    rows = values.numel() // units
    if not rows:
        return
    blocks = blocks or Blocks.of(units)
    ran = _kernels.top_k[(-(-rows // rows_each),)](
        values, masks, found, faults, k, rows, call, units=units,
        HEAD=blocks.head, TAIL=blocks.tail, ROWS=rows_each, SHIFT=_SHIFT[values.dtype],
        SIGNED=not magnitude, MASKS=masks is not None, BARS=found is not None,
        num_warps=blocks.warps,
    )  # fmt: skip
    if compiled is not None:
        compiled.append(ran)
