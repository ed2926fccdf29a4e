"""A probe from beginning to end: its parts in order, within a time, and what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from sweep.errors import InputError, ResourceError
from sweep.probe import compute, disk, fit, memory, system
from sweep.probe.disk import Repeat
from sweep.probe.grid import (
    BUFFERED,
    DEPTHS,
    KINDS,
    QUICK_DEPTHS,
    QUICK_SIZES,
    READ_SIZES,
    REPEATS,
    Cell,
    cells,
    size_text,
    within,
)
from sweep.probe.image import Image, Patience, check_folder, image, size_for
from sweep.probe.memory import Rate
from sweep.probe.validity import NEEDED, Limits, Row, enough, row_of

SECONDS, QUICK_SECONDS = 120.0, 10.0
MOST_DEPTH = 256
_SHARE, _MOST_SECONDS = 0.08, 6.0
"""Of the time, what memory and compute take each; and their seconds at most."""
_LEAST_SHARE = 0.5
"""Of the time, for reading, however long the rest took."""
AGAIN, MORE_REPEATS = 0.15, 3
"""Share of the reading time, and tries, for cells with too few valid repeats."""
_BESIDE_SECONDS = 0.02
"""What a repeat takes beside its reads: offsets, threads, a look into the page cache."""
_WRITING, _READS_OF_LEAST = 0.3, 16
"""Share of the time after which writing may stop, at an image of so many of the largest reads."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a probe. Sizes are in bytes; None is the default of `quick` or not."""

    folder: Path
    seconds: float | None = None
    image_bytes: int | None = None
    sizes: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    quick: bool = False
    interface_gbps: float | None = None

    @property
    def budget(self) -> float:
        default = QUICK_SECONDS if self.quick else SECONDS
        return default if self.seconds is None else self.seconds

    def wanted(self) -> list[Cell]:
        """The cells that would be measured if there is time."""
        sizes = self.sizes or (QUICK_SIZES if self.quick else READ_SIZES)
        depths = self.depths or (QUICK_DEPTHS if self.quick else DEPTHS)
        kinds = KINDS[:1] if self.quick else KINDS
        return cells(sorted(set(sizes)), sorted(set(depths)), kinds)


class Watcher(Protocol):
    """Is told how far a probe is."""

    def say(self, text: str) -> None:
        """One line to read."""

    def phase(self, text: str, share: float) -> None:
        """What is done now, and the share of the whole that is done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a probe found out."""

    rows: list[Row]
    rates: list[Rate]
    curves: list[fit.Curve]
    fits: list[fit.Affine]
    machine: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def check(options: Options) -> None:
    """Raises InputError, with every fault, for what cannot be probed."""
    faults = [f"--depth {d}: 1 to {MOST_DEPTH} is expected" for d in options.depths if d < 1]
    faults += [f"--depth {d}: {MOST_DEPTH} at most" for d in options.depths if d > MOST_DEPTH]
    if not 0 < options.budget < float("inf"):
        faults.append(f"--seconds {options.budget:g}: a time above 0 is expected")
    ceiling = options.interface_gbps
    if ceiling is not None and not 0 < ceiling < float("inf"):
        faults.append(f"--interface-gbps {ceiling:g}: a rate above 0 is expected")
    if faults:
        raise InputError("\n".join(faults))
    check_folder(options.folder)


def probe(options: Options, watcher: Watcher) -> Outcome:
    """Measure storage, memory and compute. Raises InputError and ResourceError; the image is gone
    then, too."""
    check(options)
    begun = time.monotonic()
    wanted = options.wanted()
    largest = max(cell.size for cell in wanted)
    size = size_for(options.folder, options.image_bytes, largest, options.quick)
    free, free_from = system.free_memory()
    watcher.say(
        f"{options.folder}: writes an image of {size_text(size)}, reads it for about "
        f"{options.budget:.0f} s and removes it"
    )
    patience = None
    if options.image_bytes is None:
        patience = Patience(_WRITING * options.budget, _READS_OF_LEAST * largest)
    with image(
        options.folder,
        size,
        watch=lambda share: watcher.phase("writing the image", 0.1 * share),
        patience=patience,
    ) as made:
        rates = _rates(options, watcher)  # meanwhile the disk tidies up after the writing
        left = max(begun + options.budget - time.monotonic(), _LEAST_SHARE * options.budget)
        if made.direct is None:  # rows are buffered then, and say so
            wanted = list(dict.fromkeys(replace(cell, mode=BUFFERED) for cell in wanted))
        chosen, each = within(wanted, (1 - AGAIN) * left, _BESIDE_SECONDS)
        rows = _rows(made, chosen, each, _limits(options, made, rates), watcher)
    notes = [*made.notes, *_skipped(wanted, chosen)]
    curves = fit.curves(rows)
    notes += [f"left out of the curve: {text}" for curve in curves for text in curve.dropped]
    machine = _machine(made, free, free_from)
    return Outcome(rows, rates, curves, [fit.affine(curve) for curve in curves], machine, notes)


def _rates(options: Options, watcher: Watcher) -> list[Rate]:
    seconds = min(_SHARE * options.budget, _MOST_SECONDS)
    threads = memory.thread_counts(system.cpus())
    watcher.phase("memory", 0.1)
    rates = memory.measure(seconds, threads)
    watcher.phase("compute", 0.2)
    return rates + compute.measure(seconds, threads)


def _limits(options: Options, made: Image, rates: Sequence[Rate]) -> Limits:
    in_memory = made.file_system if made.file_system in system.IN_MEMORY else ""
    return Limits(
        interface_gbps=options.interface_gbps,
        copy_gbps=max(rate.gbps_max for rate in rates if rate.what == "copy"),
        align=made.align,
        refused=made.refused if made.direct is None else "",
        in_memory=in_memory,
        cpus=system.cpus(),
    )


def _rows(
    made: Image, chosen: Sequence[Cell], each: float, limits: Limits, watcher: Watcher
) -> list[Row]:
    """All cells once, then all again: what drifts shows in the spread and favours no cell. Cells
    with too few valid repeats are tried again then; where reads take much longer than asked, later
    rounds are left out."""
    repeats: dict[Cell, list[Repeat]] = {cell: [] for cell in chosen}
    warmth: dict[Cell, tuple[float, str] | None] = {}
    rounds, step = REPEATS + MORE_REPEATS, each + _BESIDE_SECONDS
    end = time.monotonic() + len(chosen) * step * REPEATS / (1 - AGAIN)
    for turn in range(rounds):
        poor = [cell for cell, of_cell in repeats.items() if not enough(cell, of_cell, limits)]
        for place, cell in enumerate(chosen if turn < REPEATS else poor):
            left = end - time.monotonic()
            if turn >= NEEDED and left < 0:
                break
            share = 1 - 0.75 * min(max(left / (len(chosen) * step * REPEATS), 0), 1)
            text = f"{cell.mode} {cell.pattern}, {size_text(cell.size)} by {cell.depth}"
            watcher.phase(text if turn < REPEATS else "cells with invalid repeats", share)
            repeats[cell].append(_read(made, cell, each, turn * 1000 + place))
            warmth[cell] = system.temperature()
    return [row_of(cell, of_cell, limits, warmth[cell]) for cell, of_cell in repeats.items()]


def _read(made: Image, cell: Cell, seconds: float, seed: int) -> Repeat:
    try:
        return disk.measure(made, cell, seconds, seed)
    except OSError as error:
        what = f"a {cell.mode} read of {size_text(cell.size)}"
        raise ResourceError(f"{what} failed: {error.strerror or error}") from error


def _skipped(wanted: Sequence[Cell], chosen: Sequence[Cell]) -> list[str]:
    count = len(wanted) - len(chosen)
    short = f"{count} of {len(wanted)} cells skipped for want of time; more --seconds measures them"
    return [short] if count else []


def _machine(made: Image, free: int, free_from: str) -> dict[str, Any]:
    """What the rows were measured on, without a name or a path of it."""
    return {
        "processor": system.processor(),
        "cpus": system.cpus(),
        "os": system.operating_system(),
        "free_memory_bytes": free,
        "free_memory_from": free_from,
        "file_system": made.file_system,
        "image_bytes": made.size,
        "written_gbps": fit.figure(made.written_gbps),
        "align_bytes": made.align,
        "direct_refused": made.refused if made.direct is None else "",
    }
