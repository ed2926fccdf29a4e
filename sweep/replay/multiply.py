"""Reads of a trace with the products that need them: seconds of each token, computing included.

The same plan is done three ways: reads alone, products alone with every unit in memory, and both,
where the thread that has read a unit multiplies it at once. So compute is measured and is no
residual, and what the two hide of each other is seen. The products of what was read are held
against those from memory, beside the comparison of every byte in `sweep.probe.replay`.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.errors import ResourceError
from sweep.probe import page_cache, reader, system
from sweep.probe.grid import DIRECT
from sweep.probe.image import Image
from sweep.probe.replay import Plan, invalid
from sweep.probe.threads import run
from sweep.replay.products import BLOCK, PRODUCTS, READS, do_phases

NEAR = 1e-3
"""Share of the largest product by which two sums of the same columns may differ: the order of
their addends does, where threads share out reads and hits."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a plan's phases multiply, by places in the image.

    `missed` int64 are units read by read (those of read i are from `missed_of[i]` on), `hits`
    those of the cache phase by phase; `sizes` int64 `[groups]` the bytes of a unit of each group.
    """

    sizes: NDArray[np.int64]
    missed_of: NDArray[np.int64]
    missed: NDArray[np.int64]
    hits_of: NDArray[np.int64]
    hits: NDArray[np.int64]

    def used_bytes(self, phases: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes that each phase multiplies; `phases` are those of the plan."""
        units = np.diff(self.missed_of[phases]) + np.diff(self.hits_of)
        return units * np.resize(self.sizes, len(units))


@dataclass(frozen=True, slots=True)
class Multiplied:
    """Seconds of a token, medians over repeats: `computing_s` from memory, `both_s` with reads, of
    which the smallest and largest follow; and why a repeat does not count."""

    computing_s: float
    both_s: float
    both_low_s: float
    both_high_s: float
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return sum(not reason for reason in self.reasons) > len(self.reasons) / 2


def work(
    wanted: Plan,
    used: Sequence[NDArray[np.bool_]],
    missed: Sequence[NDArray[np.bool_]],
    unit_bytes: Sequence[int],
    align: int,
) -> Work:
    """The columns of a plan: by group, masks bool `[tokens, units]` in the order of the layout."""
    sizes = [
        -(-masks.shape[1] * unit // align) * align
        for masks, unit in zip(used, unit_bytes, strict=True)
    ]
    bases = np.concatenate([[0], np.cumsum(sizes)])
    missed_of, read_units, hit_units = [0], list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    read = 0
    for token in range(wanted.tokens):
        for group, unit in enumerate(unit_bytes):
            late = np.flatnonzero(missed[group][token]) * unit + bases[group]
            held = np.flatnonzero(used[group][token] & ~missed[group][token])
            hit_units.append(held * unit + bases[group])
            read_units.append(late)
            before = missed_of[-1]
            last = int(wanted.phases[token * wanted.groups + group + 1])
            ends = wanted.offsets[read:last] + wanted.lengths[read:last]
            missed_of += (before + np.searchsorted(late, ends)).tolist()
            read = last
    hits_of = np.concatenate([[0], np.cumsum([len(units) for units in hit_units])])
    return Work(
        np.array(unit_bytes, np.int64),
        np.array(missed_of, np.int64),
        np.concatenate(read_units).astype(np.int64),
        hits_of.astype(np.int64),
        np.concatenate(hit_units).astype(np.int64),
    )


def resident(image: Image) -> NDArray[np.uint8]:
    """The image in memory. Raises ResourceError where it takes more than half of what is free."""
    free, _ = system.free_memory()
    if image.size > free / 2:
        raise ResourceError(
            f"products need the image of {image.size / 1e6:.0f} MB in memory, and "
            f"{free / 1e6:.0f} MB are free"
        )
    return reader.words(0, -(-image.size // 8), image.seed).view(np.uint8)


def multiply(
    image: Image,
    wanted: Plan,
    columns: Work,
    held: NDArray[np.uint8],
    depth: int,
    repeats: int = 3,
    interface_gbps: float | None = None,
    mode: str = DIRECT,
) -> Multiplied:
    """Do the reads and products of a plan, on an image made with `replay.content`, with as many
    threads as reads in flight. Raises ResourceError where direct I/O is refused, a read fails, or
    a product of what was read is not that of the image."""
    descriptor = image.descriptor(mode)
    page_cache.drop(image.buffered)
    ends, expected, _ = _round(descriptor, wanted, columns, held, depth, PRODUCTS)
    computing, both, reasons = list[float](), list[float](), list[str]()
    for _ in range(repeats):
        ends, _, _ = _round(descriptor, wanted, columns, held, depth, PRODUCTS)
        computing.append(float(ends[-1] - ends[0]) / 1e9 / wanted.tokens)
        page_cache.drop(image.buffered)
        ends, sums, still = _round(descriptor, wanted, columns, held, depth, READS | PRODUCTS)
        if np.abs(sums - expected).max() > NEAR * np.abs(expected).max():
            raise ResourceError("a product of what was read is not that of what was written")
        took = float(ends[-1] - ends[0]) / 1e9
        both.append(took / wanted.tokens)
        gbps = float(wanted.lengths.sum()) / took / 1e9
        cached = page_cache.resident_share(image.buffered, image.size)
        still_share = still / took
        reasons.append(invalid(cached, still_share, gbps, interface_gbps, image.file_system))
    middle = float(np.median(both))
    return Multiplied(float(np.median(computing)), middle, min(both), max(both), tuple(reasons))


def _round(
    descriptor: int, wanted: Plan, columns: Work, held: NDArray[np.uint8], depth: int, task: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Nanoseconds at the start and after each phase, sums of products, and seconds stood still."""
    phases = len(wanted.phases) - 1
    ends, sums = np.zeros(phases + 1, np.int64), np.zeros(phases)
    marks, stop = np.zeros(depth * reader.MARK, np.int64), np.zeros(1, np.int64)
    weights = 2 * (-(-int(columns.sizes.max()) // BLOCK) * BLOCK)
    y = np.zeros((depth, 2, weights), np.float32)
    x = np.random.default_rng(1).standard_normal(4096).astype(np.float32)
    room = max(1, int(wanted.lengths.max(initial=1)))
    codes = [0] * depth

    def do(slot: int) -> None:
        with mmap.mmap(-1, room) as mapped:
            buffer = np.frombuffer(mapped, np.uint8)
            buffer[:] = 0  # its pages are there before the clock starts
            codes[slot] = do_phases(
                descriptor,
                wanted.offsets,
                wanted.lengths,
                wanted.phases,
                columns.sizes,
                columns.missed_of,
                columns.missed,
                columns.hits_of,
                columns.hits,
                held,
                x,
                slot,
                depth,
                buffer,
                y,
                sums,
                marks,
                ends,
                stop,
                task,
            )
            del buffer  # a mapping that is still looked at cannot be closed

    threads = [threading.Thread(target=do, args=(slot,), daemon=True) for slot in range(depth)]
    still = run(threads, lambda: stop.fill(1))
    if reader.SHORT in codes:
        raise ResourceError("a read failed or came back short")
    return ends, sums, still
