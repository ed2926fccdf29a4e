"""What is measured on the disk: cells of read size, depth, pattern and mode, and their time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.errors import InputError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
READ_SIZES = tuple(4 * KIB << step for step in range(11))
DEPTHS = (1, 2, 4, 8, 16)
QUICK_SIZES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
QUICK_DEPTHS = (1, 8)
DIRECT, BUFFERED = "direct", "buffered"
RANDOM, SEQUENTIAL = "random", "sequential"
KINDS = ((DIRECT, RANDOM), (DIRECT, SEQUENTIAL), (BUFFERED, RANDOM), (BUFFERED, SEQUENTIAL))
"""Modes and patterns; the first is what a curve is made of."""
REPEATS = 3
LEAST_SECONDS, MOST_SECONDS = 0.1, 1.0
"""Of one repeat of a cell: less is noise of the scheduler, more tells nothing new."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([KMG])(i?)B?|B)?", re.IGNORECASE)
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of read: `size` in bytes, `depth` reads in flight."""

    mode: str
    pattern: str
    size: int
    depth: int


def cells(
    sizes: Sequence[int] = READ_SIZES,
    depths: Sequence[int] = DEPTHS,
    kinds: Sequence[tuple[str, str]] = KINDS,
) -> list[Cell]:
    """All combinations, those of the first kind first."""
    return [
        Cell(mode, pattern, size, depth)
        for mode, pattern in kinds
        for depth in depths
        for size in sizes
    ]


def within(wanted: Sequence[Cell], seconds: float, beside: float = 0.0) -> tuple[list[Cell], float]:
    """The cells that a time allows, and the seconds of one repeat of each, which takes `beside`
    seconds more.

    The curve (cells of the first kind) comes first: it loses read sizes evenly, then depths, and
    keeps the ends of both. What time is left goes to the others, evenly spread.
    """
    room = max(2, int(seconds / (REPEATS * (LEAST_SECONDS + beside))))
    chosen = _thinned(wanted, room)
    each = seconds / (REPEATS * len(chosen)) - beside
    return chosen, min(max(each, LEAST_SECONDS / 5), MOST_SECONDS)


def _thinned(wanted: Sequence[Cell], room: int) -> list[Cell]:
    if len(wanted) <= room:
        return list(wanted)
    first = (wanted[0].mode, wanted[0].pattern)
    curve = [cell for cell in wanted if (cell.mode, cell.pattern) == first]
    others = [cell for cell in wanted if (cell.mode, cell.pattern) != first]
    curve = _smaller_grid(curve, room)
    ranked = sorted(range(len(others)), key=lambda place: place * _GOLDEN % 1)
    return curve + [others[place] for place in sorted(ranked[: room - len(curve)])]


def _smaller_grid(curve: Sequence[Cell], room: int) -> list[Cell]:
    sizes = sorted({cell.size for cell in curve})
    depths = sorted({cell.depth for cell in curve})
    while len(sizes) * len(depths) > room and len(sizes) * len(depths) > 2:
        if len(sizes) > 6 or len(depths) == 1 or (len(depths) == 2 and len(sizes) > 3):
            sizes = _spaced(sizes, len(sizes) - 1)
        else:
            depths = _spaced(depths, len(depths) - 1)
    return [cell for cell in curve if cell.size in sizes and cell.depth in depths]


def _spaced(values: Sequence[int], count: int) -> list[int]:
    """`count` of the values, evenly spaced, with both ends (of one, the last)."""
    if count == 1:
        return [values[-1]]
    return [values[round(i * (len(values) - 1) / (count - 1))] for i in range(count)]


def bytes_of(text: str, what: str) -> int:
    """`8 MiB`, `4k` or `1GB` (all in powers of 1,024) in bytes. Raises InputError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{what} {text!r} is no size; write it as 4KiB, 256MiB or 1GiB")
    unit = (match[2] or "").upper()
    factor = {"": 1, "K": KIB, "M": MIB, "G": GIB}[unit]
    size = round(float(match[1]) * factor)
    if size <= 0:
        raise InputError(f"{what} {text!r}: a size above 0 is expected")
    return size


def size_text(size: int) -> str:
    """4 KiB, 1.5 MiB, 1 GiB."""
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"
