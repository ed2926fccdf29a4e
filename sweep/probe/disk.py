"""Reads of one kind, timed: `depth` threads, each with one read in flight into a buffer of its own.

Backend. Threads with `os.preadv` into page-aligned memory, which is what an engine for phones does,
and what every POSIX system has. `io_uring` was weighed and left out: no binding of it is kept up on
the package index for the Pythons supported here, Android's and most containers' seccomp filters
refuse its calls, and up to 16 reads in flight its gain is processor time per read, not what the
device answers. Where the reader itself is the bound, at reads of some microseconds, `cpu_s` shows
it and the row says so.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sweep.probe import page_cache, system
from sweep.probe.grid import BUFFERED, RANDOM, Cell
from sweep.probe.image import Image
from sweep.probe.threads import run

BACKEND = "threads"
MOST_OFFSETS = 1 << 18
"""Offsets that are drawn for one repeat; more reads than these begin again from the first."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """One timed run of a cell. `deadline_s` is the time it was given, `elapsed_s` what it took."""

    reads: int
    bytes: int
    deadline_s: float
    elapsed_s: float
    cpu_s: float
    waited_s: float | None
    """Seconds, over all threads, in which one could run and had no processor; None: not told."""
    stolen_s: float | None
    """Processor seconds that the host gave to others meanwhile; None: not told."""
    still_s: float
    """Seconds in which a thread that only counts time was not run: the process stood still, while
    a storage that is slow leaves it running."""
    p50_us: float
    p99_us: float
    longest_us: float
    cached: float | None
    """Share of the image in the page cache: of a buffered repeat before its reads, of a direct one
    after them, where it must have left nothing; None: not told."""

    @property
    def mbps(self) -> float:
        """1e6 bytes per second."""
        return self.bytes / self.elapsed_s / 1e6


@dataclass(slots=True)
class _Clock:
    """When a repeat began and must end, on `perf_counter_ns`, from when all threads are ready."""

    nanoseconds: int
    start: int = 0
    end: int = 0
    cpu: float = 0.0
    still: float = 0.0
    errors: list[OSError] = field(default_factory=list)

    def begin(self) -> None:
        self.cpu = time.process_time()
        self.start = time.perf_counter_ns()
        self.end = self.start + self.nanoseconds


def measure(image: Image, cell: Cell, seconds: float, seed: int) -> Repeat:
    """Reads of a cell for some seconds. Raises OSError if a read fails, ResourceError if the mode
    is refused.

    A buffered repeat begins with an empty page cache and reads nothing twice, so it may end early.
    """
    descriptor = image.descriptor(cell.mode)
    buffered = cell.mode == BUFFERED
    cached = None
    if buffered:
        page_cache.drop(image.buffered)
        page_cache.expect(image.buffered, cell.pattern)
        cached = page_cache.resident_share(image.buffered, image.size)
    offsets = _offsets(image.size, cell, seed)
    limit = len(offsets) if buffered else None
    stolen = system.stolen_seconds()
    clock, latencies, waited = _timed(descriptor, cell, offsets, limit, seconds)
    elapsed, cpu = (time.perf_counter_ns() - clock.start) / 1e9, time.process_time() - clock.cpu
    after = system.stolen_seconds()
    if clock.errors:
        raise clock.errors[0]
    if buffered:
        page_cache.drop(image.buffered)  # else the next direct repeat would be blamed for it
    else:
        cached = page_cache.resident_share(image.buffered, image.size)
    p50, p99 = np.percentile(latencies, [50, 99]) / 1e3
    return Repeat(
        reads=len(latencies),
        bytes=len(latencies) * cell.size,
        deadline_s=seconds,
        elapsed_s=elapsed,
        cpu_s=cpu,
        waited_s=waited,
        stolen_s=None if stolen is None or after is None else after - stolen,
        still_s=clock.still,
        p50_us=float(p50),
        p99_us=float(p99),
        longest_us=max(latencies) / 1e3,
        cached=cached,
    )


def _offsets(size: int, cell: Cell, seed: int) -> list[int]:
    """Where the reads of a repeat begin: all blocks once in a random order, or in file order from
    a random one on."""
    draw = np.random.default_rng(seed)
    blocks = size // cell.size
    if cell.pattern == RANDOM:
        order = draw.permutation(blocks)[:MOST_OFFSETS]
    else:
        first = int(draw.integers(blocks))
        order = (first + np.arange(min(blocks, MOST_OFFSETS))) % blocks
    return (order * cell.size).tolist()


def _timed(
    descriptor: int, cell: Cell, offsets: Sequence[int], limit: int | None, seconds: float
) -> tuple[_Clock, array[int], float | None]:
    """The clock after all threads are done, the nanoseconds of each read, and seconds waited."""
    clock = _Clock(round(seconds * 1e9))
    turn = itertools.count()
    ready = threading.Barrier(cell.depth, clock.begin)
    taken = [array("q") for _ in range(cell.depth)]
    waits: list[float | None] = [None] * cell.depth
    places = len(offsets)
    now = time.perf_counter_ns

    def read(slot: int) -> None:
        latencies = taken[slot]
        with mmap.mmap(-1, cell.size) as buffer:  # page-aligned, as direct reads need it
            into = [buffer]
            buffer.write(bytes(cell.size))  # its pages are there before the clock starts
            before = system.waited_seconds()
            ready.wait()
            while True:
                number = next(turn)
                start = now()
                over = start >= clock.end and (latencies or not clock.end)  # one read at least
                if over or (limit is not None and number >= limit):
                    break
                if os.preadv(descriptor, into, offsets[number % places]) != cell.size:
                    raise OSError(f"a read of {cell.size} bytes came back short")
                latencies.append(now() - start)
            after = system.waited_seconds()
        waits[slot] = None if before is None or after is None else after - before

    def guarded(slot: int) -> None:
        try:
            read(slot)
        except threading.BrokenBarrierError:
            return  # interrupted before all were ready
        except OSError as error:
            clock.errors.append(error)
            clock.end = 0

    threads = [threading.Thread(target=guarded, args=(s,), daemon=True) for s in range(cell.depth)]

    def stop() -> None:
        clock.nanoseconds, clock.end = 0, 0
        ready.abort()

    clock.still = run(threads, stop)
    told = [wait for wait in waits if wait is not None]
    return clock, sum(taken, array("q")), sum(told) if len(told) == cell.depth else None
