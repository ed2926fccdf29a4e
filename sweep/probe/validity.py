"""Whether a repeat says something of the storage: each reason why not, as a pure function of it.

A row is the median of its valid repeats. What is not valid is shown with its reason and averaged
into nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from sweep.probe.disk import BACKEND, Repeat
from sweep.probe.grid import BUFFERED, DIRECT, KIB, RANDOM, Cell

LATE = 0.25
"""Share by which a repeat may outlast its deadline and its longest read, which the storage may have
needed; more: descheduled. So is a repeat in which the process stood still for that share of the
time, or lost it to a host that took processors."""
CACHED = 0.01
"""Share of the image that may be in the page cache."""
FASTEST_STORAGE_US = 5.0
"""No storage answers a random read faster; the page cache takes 1 to 3 µs."""
DRAM_LIKE = 0.8
"""Share of the speed of copying memory from which on a read is taken for one."""
NEEDED = 2
"""Valid repeats that make a valid row."""
BUSY = 0.5
"""Share of all processors from which on it is the reader itself that keeps them busy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a true read here; None where that is not known."""

    interface_gbps: float | None = None
    copy_gbps: float | None = None
    """Bytes copied a second in memory, each counted once."""
    align: int = 1
    refused: str = ""
    """Why direct I/O is refused; empty where it is not."""
    in_memory: str = ""
    """The file system's kind, if it is one in memory."""
    cpus: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A cell's repeats. `mbps` and the like are medians over the repeats that count: the valid ones
    of a valid row, all of another."""

    mode: str
    pattern: str
    size_kb: float
    depth: int
    backend: str
    mbps: float
    mbps_min: float
    mbps_max: float
    rel_spread: float
    """(largest - smallest) / median."""
    p50_us: float
    p99_us: float
    n: int
    elapsed_s: float
    cpu_s: float
    repeats: int
    valid: bool
    reason: str
    note: str
    cache: str
    temperature_c: float | None = None
    sensor: str = ""

    @property
    def size(self) -> int:
        """Bytes of a read."""
        return round(self.size_kb * KIB)

    @property
    def gbps(self) -> float:
        return self.mbps / 1e3


def reasons(cell: Cell, repeat: Repeat, limits: Limits) -> list[str]:
    """Why a repeat says nothing of the storage; empty if it does."""
    return [
        *_of_the_cache(cell, repeat, limits),
        *_of_the_time(cell, repeat, limits),
        *_of_the_way(cell, limits),
    ]


def _of_the_cache(cell: Cell, repeat: Repeat, limits: Limits) -> Iterator[str]:
    if limits.in_memory:
        yield f"page cache: {limits.in_memory} is in memory"
    elif repeat.cached is not None and repeat.cached > CACHED:
        yield f"page cache: {repeat.cached:.0%} of the image was in it"
    elif cell.mode == BUFFERED and repeat.cached is None:
        yield "page cache: whether it was empty cannot be checked here"
    elif cell.pattern == RANDOM and repeat.p50_us < FASTEST_STORAGE_US:
        yield f"page cache: half of the reads took less than {repeat.p50_us:.1f} µs"
    elif limits.copy_gbps and repeat.mbps > DRAM_LIKE * limits.copy_gbps * 1e3:
        yield f"page cache: as fast as copying memory ({limits.copy_gbps:.1f} GB/s)"


def _of_the_time(cell: Cell, repeat: Repeat, limits: Limits) -> Iterator[str]:
    allowed = repeat.deadline_s * (1 + LATE) + repeat.longest_us / 1e6
    if repeat.still_s > LATE * repeat.deadline_s:
        yield f"descheduled: stood still for {repeat.still_s:.2f} of {repeat.elapsed_s:.2f} s"
    elif repeat.elapsed_s > allowed:
        yield f"descheduled: took {repeat.elapsed_s:.2f} s, was given {repeat.deadline_s:.2f} s"
    elif (waited := waiting(cell, repeat)) > LATE and not busy(repeat, limits.cpus):
        yield f"descheduled: others had the processors, {waited:.0%} of the time"
    elif (lost := lost_to_others(repeat, limits.cpus)) > LATE:
        yield f"descheduled: the host took processors, {lost:.0%} of the time"
    ceiling = limits.interface_gbps
    if ceiling is not None and repeat.mbps > ceiling * 1e3:
        yield f"above the interface: {repeat.mbps / 1e3:.2f} of {ceiling:g} GB/s"


def _of_the_way(cell: Cell, limits: Limits) -> Iterator[str]:
    if cell.mode == BUFFERED and limits.refused:
        yield f"direct I/O refused: {limits.refused}"
    if cell.mode == DIRECT and cell.size % limits.align:
        yield f"unaligned: {cell.size} bytes are no multiple of {limits.align}"


def lost_to_others(repeat: Repeat, cpus: int) -> float:
    """Share of a repeat's time that theft of processors by the host may have cost its reader:
    what it computed took 1 / (1 - stolen share) times as long."""
    if not repeat.stolen_s:
        return 0.0
    share = min(repeat.stolen_s / (repeat.elapsed_s * cpus), 0.99)
    return min(repeat.cpu_s * share / (1 - share) / repeat.elapsed_s, 1.0)


def waiting(cell: Cell, repeat: Repeat) -> float:
    """Share of a thread's time in which it could run and had no processor; 0 if it is not told."""
    return (repeat.waited_s or 0.0) / cell.depth / repeat.elapsed_s


def busy(repeat: Repeat, cpus: int) -> bool:
    """Whether the reader uses so much of the processors that its threads wait for each other."""
    return repeat.cpu_s > BUSY * cpus * repeat.elapsed_s


def processor_bound(cell: Cell, repeat: Repeat, cpus: int) -> bool:
    """Whether the reader, and not the storage, set the pace: the row is then a lower bound. One
    processor is all that threads of Python can use."""
    all_of_one = repeat.cpu_s > 0.9 * repeat.elapsed_s
    return all_of_one or (waiting(cell, repeat) > LATE and busy(repeat, cpus))


def enough(cell: Cell, repeats: Sequence[Repeat], limits: Limits) -> bool:
    """Whether the valid repeats make a valid row: NEEDED of them, since one has no spread."""
    return sum(not reasons(cell, repeat, limits) for repeat in repeats) >= NEEDED


def row_of(
    cell: Cell,
    repeats: Sequence[Repeat],
    limits: Limits,
    warmth: tuple[float, str] | None = None,
) -> Row:
    """The row of a cell; valid if `enough` of its repeats are."""
    faults = [reasons(cell, repeat, limits) for repeat in repeats]
    sound = [repeat for repeat, wrong in zip(repeats, faults, strict=True) if not wrong]
    valid = enough(cell, repeats, limits)
    counted = sound if valid else list(repeats)
    speeds = [repeat.mbps for repeat in counted]
    first = next((wrong for wrong in faults if wrong), [])
    bound = sum(processor_bound(cell, repeat, limits.cpus) for repeat in counted) > len(counted) / 2
    left_out = (
        f"{len(repeats) - len(counted)} of {len(repeats)} repeats left out: {'; '.join(first)}"
    )
    notes = [left_out] if len(counted) < len(repeats) else []
    notes += ["the reader is the bound: at least this"] if bound else []
    return Row(
        cell.mode,
        cell.pattern,
        cell.size / KIB,
        cell.depth,
        BACKEND,
        mbps=median(speeds),
        mbps_min=min(speeds),
        mbps_max=max(speeds),
        rel_spread=(max(speeds) - min(speeds)) / median(speeds),
        p50_us=median(repeat.p50_us for repeat in counted),
        p99_us=median(repeat.p99_us for repeat in counted),
        n=sum(repeat.reads for repeat in counted),
        elapsed_s=sum(repeat.elapsed_s for repeat in counted),
        cpu_s=sum(repeat.cpu_s for repeat in counted),
        repeats=len(counted),
        valid=valid,
        reason="" if valid else "; ".join(first),
        note="; ".join(notes),
        cache=_cache_state(cell, counted),
        temperature_c=warmth[0] if warmth else None,
        sensor=warmth[1] if warmth else "",
    )


def _cache_state(cell: Cell, repeats: Sequence[Repeat]) -> str:
    """What is known of the page cache: dropped how, checked how."""
    shares = [repeat.cached for repeat in repeats]
    told = [share for share in shares if share is not None]
    if len(told) < len(shares):
        return "not checked"
    how = "dropped by posix_fadvise" if cell.mode == BUFFERED else "passed by"
    return f"{how}; mincore: {max(told):.1%} of the image in it"
