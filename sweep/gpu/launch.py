"""The Triton kernels as functions of tensors: grids, sizes of blocks, and room for results.

Only imported where Triton is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sweep.gpu import kernels, lru, scans
from sweep.gpu.state import Caches

_kernels: Any = kernels
_scans: Any = scans
_lru: Any = lru

MOST_UNITS = 1 << 17
"""A unit's number has 17 bits beside what else a fault says."""
_ROWS = 16
"""Rows of a program of top-k: the search in each begins where the last one ended."""
_SHIFT = {torch.float32: 0, torch.bfloat16: 16, torch.float16: 13}
"""Low bits of a value as float32 that are 0 for every value of the type."""
_NO_FAULT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a row of units lies in a program: two powers of two, warps, and neighbours a thread."""

    head: int
    tail: int
    warps: int

    @classmethod
    def of(cls, units: int, warps: int = 0) -> Blocks:
        """The smallest sum of two powers of two that has room; one where that is no larger."""
        head = 1 << max(6, (units - 1).bit_length())
        tail = 0
        half = head // 2
        if units > half >= 64:
            rest = 1 << max(6, (units - half - 1).bit_length())
            if rest < half:
                head, tail = half, rest
        least = max(1, head // 1024)
        return cls(head, tail, warps or min(16, max(least, (tail or head // 4) // 128)))

    @property
    def each(self) -> int:
        """Neighbours in one thread: its share of the shorter block, as far as loads are wide."""
        return min(8, max(4, (self.tail or self.head) // (32 * self.warps)))

    @property
    def shape(self) -> dict[str, int]:
        return {"HEAD": self.head, "TAIL": self.tail, "EACH": self.each, "num_warps": self.warps}


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
    values: Tensor,
    k: int,
    magnitude: bool,
    faults: Tensor,
    call: int = 0,
    target: Tensor | None = None,
    ones: bool = False,
    bits: bool = True,
    **options: Any,
) -> Tensor | None:
    """Masks as words of the k largest of each row, or of their magnitudes; None without `bits`.

    `target`, of the shape and type of `values`, gets what is selected (or ones) and 0 elsewhere.
    """
    words = _room(values) if bits else None
    _top_k(values, k, magnitude, faults, call, words, target, ones, None, **options)
    return None if words is None else words.view(torch.int64)


def bars(values: Tensor, k: int, faults: Tensor, call: int = 0) -> Tensor:
    """Int32 `[...]`: bits of the k-th largest magnitude of each row."""
    found = torch.empty(values.shape[:-1], dtype=torch.int32, device=values.device)
    _top_k(values, k, True, faults, call, None, None, False, found)
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
    """Algorithm 1 for contiguous values `[sequences, tokens, units]`: masks as words, hits int64.

    `passes` int32 `[sequences, 2]` gets how often both searches have looked at a row, and
    `compiled` what ran.
    """
    sequences, tokens, units = values.shape
    blocks = blocks or Blocks.of(units)
    words = _room(values)
    hits = torch.empty((sequences, tokens), dtype=torch.int64, device=values.device)
    if passes is None:
        passes = torch.empty((sequences, 2), dtype=torch.int32, device=values.device)
    if not hits.numel():
        return words.view(torch.int64), hits
    levels = bars(values, k, faults, call)
    snap = 1 << _SHIFT[values.dtype] if values.dtype != torch.float32 else 0
    pairs = values.dtype == torch.bfloat16 and units % 2 == 0
    rows = values.view(torch.int32) if pairs else values
    shape = {"units": units, "WORDS": words.shape[-1], "SNAP": snap, **blocks.shape}
    end = (passes, words, hits, k, caches.capacity, gamma, tokens)
    if caches.policy == "lfu":
        ran = _scans.lfu_scan[(sequences,)](
            rows, levels, caches.states, *end, caches.tokens,
            TIGHT=caches.capacity <= k, PAIRS=pairs, **shape,
        )  # fmt: skip
    else:
        scratch = torch.empty((sequences, 2, units), dtype=torch.int32, device=values.device)
        ran = _lru.lru_scan[(sequences,)](
            values, levels, caches.states, caches.seen, scratch, *end, **shape
        )
    if compiled is not None:
        compiled.append(ran)
    caches.tokens += tokens
    return words.view(torch.int64), hits


def kept(values: Tensor, words: Tensor, ones: bool = False) -> Tensor:
    """Contiguous values where their bits are set (or ones), 0 elsewhere."""
    target = torch.empty_like(values)
    units = values.shape[-1]
    if values.numel():
        block = min(2048, 1 << (units - 1).bit_length())
        grid = (values.numel() // units, -(-units // block))
        _kernels.keep_bits[grid](
            values, words.view(torch.int32), target, grid[0], units=units,
            WORDS=2 * words.shape[-1], BLOCK=block, ONES=ones,
        )  # fmt: skip
    return target


def _room(values: Tensor) -> Tensor:
    """Int32 words, an even number for each row: the words of the CPU have 64 bits."""
    shape = (*values.shape[:-1], 2 * -(-values.shape[-1] // 64))
    return torch.empty(shape, dtype=torch.int32, device=values.device)


def _top_k(
    values: Tensor,
    k: int,
    magnitude: bool,
    faults: Tensor,
    call: int,
    words: Tensor | None,
    target: Tensor | None,
    ones: bool,
    found: Tensor | None,
    blocks: Blocks | None = None,
    rows_each: int = _ROWS,
    compiled: list[Any] | None = None,
) -> None:
    units = values.shape[-1]
    rows = values.numel() // units
    if not rows:
        return
    blocks = blocks or Blocks.of(units, _warps_of_top_k(units))
    ran = _kernels.top_k[(-(-rows // rows_each),)](
        values, words, target, found, faults, k, rows, call, units=units,
        WORDS=2 * -(-units // 64), ROWS=rows_each, SHIFT=_SHIFT[values.dtype],
        SIGNED=not magnitude, PACKED=words is not None, TARGET=target is not None, ONES=ones,
        BARS=found is not None, **blocks.shape,
    )  # fmt: skip
    if compiled is not None:
        compiled.append(ran)


def _warps_of_top_k(units: int) -> int:
    """Many units a thread: several programs on a multiprocessor hide each other's waits."""
    return min(8, max(1, Blocks.of(units).head // 1024))
