"""How fast DRAM is read and copied, by threads: numpy over arrays that no cache holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import numpy as np

from sweep.errors import ResourceError
from sweep.probe import system
from sweep.probe.grid import MIB, REPEATS

BYTES = 256 * MIB
"""Of the array that is read; eight times the last-level cache of a large desktop."""
LEAST_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes a second of some work by some threads: GB/s, median of the repeats and both ends."""

    what: str
    threads: int
    gbps: float
    gbps_min: float
    gbps_max: float
    repeats: int


def measure(seconds: float, threads: Sequence[int], size: int = BYTES) -> list[Rate]:
    """Read and copy rates for each number of threads. A copy's bytes are counted once, though each
    is read and written. Raises ResourceError where even a small array has no room."""
    size = fitting(size)
    words = np.full(size // 8, 0x5A5A, np.int64)
    other = np.zeros_like(words)
    each = seconds / (2 * len(threads))
    rates = []
    for count in threads:
        parts = list(zip(np.array_split(words, count), np.array_split(other, count), strict=True))
        read = [lambda part=part: part.sum() for part, _ in parts]
        copy = [lambda a=a, b=b: np.copyto(b, a) for a, b in parts]
        rates.append(rate_of("read", read, size, each))
        rates.append(rate_of("copy", copy, size, each))
    return rates


def fitting(size: int) -> int:
    """`size`, halved until it takes no more than an eighth of the free memory."""
    free, _ = system.free_memory()
    while size > free / 8:
        size //= 2
        if size < LEAST_BYTES:
            raise ResourceError(f"{free / 1e6:.0f} MB of memory are free; that is too little")
    return size


def rate_of(what: str, works: Sequence[Callable[[], object]], size: int, seconds: float) -> Rate:
    """Bytes a second of works done at once, a thread each, over and over; each round handles
    `size` bytes. At least one round a repeat, and one before them for what is slow once."""
    speeds = []
    with ThreadPoolExecutor(len(works)) as pool:
        _round(pool, works)
        for _ in range(REPEATS):
            start, rounds, elapsed = time.perf_counter(), 0, 0.0
            while not rounds or elapsed < seconds / REPEATS:
                _round(pool, works)
                rounds, elapsed = rounds + 1, time.perf_counter() - start
            speeds.append(rounds * size / elapsed / 1e9)
    return Rate(what, len(works), median(speeds), min(speeds), max(speeds), REPEATS)


def _round(pool: ThreadPoolExecutor, works: Sequence[Callable[[], object]]) -> None:
    for done in [pool.submit(work) for work in works]:
        done.result()


def thread_counts(cpus: int) -> list[int]:
    """1, 2, 4, … and all processors."""
    powers = [1 << step for step in range(cpus.bit_length()) if 1 << step < cpus]
    return [*powers, cpus]


def best(rates: Sequence[Rate], what: str) -> float:
    """The largest median of one kind of work, in GB/s."""
    return max(rate.gbps for rate in rates if rate.what == what)
