"""The reads of a trace, done: seconds of each token with the storage as it is.

A token's phases (a group of a layer each) come one after another, since a layer needs its weights
before the next can say which it needs; the reads of a phase are shared out over `depth` threads.
What is read is compared with the image first, in a pass that is not timed; then it is read again
and again with the clock on. Nothing is computed here: this is the reading half.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError, ResourceError
from sweep.probe import page_cache, reader, system
from sweep.probe.grid import BUFFERED, DIRECT
from sweep.probe.image import CHUNK, Image
from sweep.probe.threads import run
from sweep.probe.validity import CACHED, LATE

Reads = Sequence[Sequence[tuple[int, int]]]
"""Of each token the reads, as (offset, length) in bytes from the start of its group's region."""
MEET, READ, CHECK = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Reads in the order of their phases: token by token, in each the groups of all layers.

    `offsets` and `lengths` int64 `[reads]` in bytes of the image; the reads of phase p are those
    from `phases[p]` to `phases[p + 1]`; each token has `groups` phases. The image has `size` bytes.
    """

    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    phases: NDArray[np.int64]
    groups: int
    size: int

    @property
    def tokens(self) -> int:
        return (len(self.phases) - 1) // self.groups

    @property
    def bytes_per_token(self) -> float:
        return float(self.lengths.sum()) / self.tokens

    @property
    def reads_per_token(self) -> float:
        return len(self.lengths) / self.tokens


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """What a stopwatch showed. `seconds` is float64 `[repeats, tokens]`."""

    seconds: NDArray[np.float64]
    meeting_s: float
    """Seconds a token of the same phases without a read: threads that wait for each other. It is
    in `seconds`."""
    checked_bytes: int
    """Bytes that were compared with the image, all equal."""
    reasons: tuple[str, ...]
    """For each repeat why it says nothing of the storage; empty if it does."""

    @property
    def valid(self) -> bool:
        return sum(not reason for reason in self.reasons) > len(self.reasons) / 2

    @property
    def seconds_per_token(self) -> tuple[float, float, float]:
        """Median, smallest and largest over the repeats that count: the valid ones of a valid
        replay, all of another."""
        means = self.seconds.mean(axis=1)
        sound = np.array([not reason for reason in self.reasons])
        counted = means[sound] if self.valid else means
        return float(np.median(counted)), float(counted.min()), float(counted.max())

    @property
    def rel_spread(self) -> float:
        """(largest - smallest) / median of the seconds per token."""
        middle, least, most = self.seconds_per_token
        return (most - least) / middle


def runs(
    missed: NDArray[np.bool_], unit_bytes: int, align: int = 1, bridge_bytes: float = 0
) -> Reads:
    """The reads of one group, plainly: runs of missed neighbours (`missed` bool `[tokens, units]`
    in the order of the layout), rounded out to `align` bytes; two are one where less than
    `bridge_bytes` lie between them, as where they share a block. By an affine law of reads,
    `bridge_bytes` = latency · throughput makes the plan of `simulator.reads`."""
    return [list(_runs_of(row, unit_bytes, align, bridge_bytes)) for row in missed]


def _runs_of(
    row: NDArray[np.bool_], unit_bytes: int, align: int, bridge_bytes: float
) -> Iterator[tuple[int, int]]:
    begin = end = -1
    last = -1
    for unit in np.flatnonzero(row).tolist():
        first_byte = unit * unit_bytes // align * align
        end_byte = -(-(unit + 1) * unit_bytes // align) * align
        if begin >= 0 and (unit == last + 1 or first_byte - end < bridge_bytes):
            end = end_byte
        else:
            if begin >= 0:
                yield begin, end - begin
            begin, end = first_byte, end_byte
        last = unit
    if begin >= 0:
        yield begin, end - begin


def plan(
    missed: Sequence[NDArray[np.bool_]],
    unit_bytes: Sequence[int],
    reads: Sequence[Reads],
    align: int = 1,
) -> Plan:
    """The plan of all groups, in the order in which a token needs them; for group g `missed[g]` is
    bool `[tokens, units]` in the order of the layout and `reads[g]` its planned reads.

    Each group has a region of the image, rounded up to `align`, one after another. Raises
    InputError unless every missed unit is in a read, and reads ascend, are aligned and stay within
    the region.
    """
    tokens = {len(masks) for masks in missed} | {len(of_group) for of_group in reads}
    if len(tokens) != 1 or not len(missed) == len(unit_bytes) == len(reads):
        raise InputError("masks, sizes and reads must be of the same groups and tokens")
    sizes = [
        -(-masks.shape[1] * unit // align) * align
        for masks, unit in zip(missed, unit_bytes, strict=True)
    ]
    bases = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    for group, (masks, unit) in enumerate(zip(missed, unit_bytes, strict=True)):
        for token, row in enumerate(masks):
            fault = _fault(row, unit, reads[group][token], align, sizes[group])
            if fault:
                raise InputError(f"group {group}, token {token}: {fault}")
    (count,) = tokens
    ordered = [
        [(bases[g] + o, n) for o, n in of[t]] for t in range(count) for g, of in enumerate(reads)
    ]
    flat = np.array([read for phase in ordered for read in phase], np.int64).reshape(-1, 2)
    phases = np.concatenate([[0], np.cumsum([len(phase) for phase in ordered])]).astype(np.int64)
    offsets, lengths = (np.ascontiguousarray(column) for column in flat.T)
    return Plan(offsets, lengths, phases, len(missed), bases[-1])


def _fault(
    row: NDArray[np.bool_], unit_bytes: int, reads: Sequence[tuple[int, int]], align: int, size: int
) -> str:
    """What is wrong with the reads of a token in a group; empty if nothing is."""
    last = end = -1
    for offset, length in reads:
        if offset % align or length % align or length <= 0:
            return f"a read of {length} bytes at {offset} is not aligned to {align}"
        if offset <= last or not end < offset + length <= size:
            return f"a read of {length} bytes at {offset} is not after the last, or beyond {size}"
        last, end = offset, offset + length
    starts = np.array([offset for offset, _ in reads] or [size], np.int64)
    ends = np.array([offset + length for offset, length in reads] or [size], np.int64)
    units = np.flatnonzero(row)
    of_unit = np.maximum(np.searchsorted(starts, units * unit_bytes, side="right") - 1, 0)
    held = (starts[of_unit] <= units * unit_bytes) & (ends[of_unit] >= (units + 1) * unit_bytes)
    return "" if held.all() else f"unit {units[~held][0]} is missed and in none of its reads"


def content(size: int, seed: int) -> Iterator[memoryview]:
    """Bytes of an image whose every place is known, for `image(…, pieces=content)`."""
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        yield reader.words(start // 8, -(-length // 8), seed).view(np.uint8).data[:length]


def replay(
    image: Image,
    wanted: Plan,
    depth: int,
    repeats: int = 3,
    interface_gbps: float | None = None,
    mode: str = DIRECT,
) -> Replayed:
    """Do the reads of a plan with `depth` in flight, on an image made with `content`.

    Raises InputError for a depth or an image that does not do, ResourceError where direct I/O is
    refused, a read fails, or a byte is not that of the image.
    """
    if depth < 1 or repeats < 1:
        raise InputError(f"depth {depth}, repeats {repeats}: 1 or more are expected")
    if image.size < wanted.size:
        raise InputError(f"the image has {image.size} bytes, the plan needs {wanted.size}")
    descriptor = image.descriptor(mode)
    page_cache.drop(image.buffered)
    page_cache.expect(image.buffered, page_cache.RANDOM)
    _round(descriptor, wanted, depth, CHECK, image.seed)
    meeting, _ = _round(descriptor, wanted, depth, MEET, image.seed)
    rows, reasons = [], []
    for _ in range(repeats):
        page_cache.drop(image.buffered)
        before = page_cache.resident_share(image.buffered, image.size)
        ends, still = _round(descriptor, wanted, depth, READ, image.seed)
        after = page_cache.resident_share(image.buffered, image.size)
        rows.append(np.diff(ends[:: wanted.groups]) / 1e9)
        cached = before if mode == BUFFERED else after
        took = (ends[-1] - ends[0]) / 1e9
        gbps = float(wanted.lengths.sum()) / took / 1e9
        reasons.append(invalid(cached, still / took, gbps, interface_gbps, image.file_system))
    return Replayed(
        np.array(rows),
        float(meeting[-1] - meeting[0]) / 1e9 / wanted.tokens,
        int(wanted.lengths.sum()),
        tuple(reasons),
    )


def invalid(
    cached: float | None,
    still_share: float,
    gbps: float,
    interface_gbps: float | None,
    file_system: str,
) -> str:
    """Why a repeat says nothing of the storage; empty if it does. `cached` is the share of the
    image in the page cache, `still_share` that of its time in which the process stood still."""
    if file_system in system.IN_MEMORY:
        return f"page cache: {file_system} is in memory"
    if cached is not None and cached > CACHED:
        return f"page cache: {cached:.0%} of the image was in it"
    if still_share > LATE:
        return f"descheduled: stood still for {still_share:.0%} of the time"
    if interface_gbps is not None and gbps > interface_gbps:
        return f"above the interface: {gbps:.2f} of {interface_gbps:g} GB/s"
    return ""


def _round(
    descriptor: int, wanted: Plan, depth: int, task: int, seed: int
) -> tuple[NDArray[np.int64], float]:
    """Nanoseconds at the start and after each phase, and seconds in which all stood still."""
    ends = np.zeros(len(wanted.phases), np.int64)
    marks, stop = np.zeros(depth * reader.MARK, np.int64), np.zeros(1, np.int64)
    room = -(-int(wanted.lengths.max(initial=1)) // 8) * 8
    counts = [0] * depth

    def read(slot: int) -> None:
        with mmap.mmap(-1, room) as mapped:
            buffer = np.frombuffer(mapped, np.uint64)
            buffer[:] = 0  # its pages are there before the clock starts
            counts[slot] = reader.read_phases(
                descriptor,
                wanted.offsets,
                wanted.lengths,
                wanted.phases,
                slot,
                depth,
                buffer,
                marks,
                ends,
                stop,
                seed,
                task,
            )
            del buffer  # a mapping that is still looked at cannot be closed

    threads = [threading.Thread(target=read, args=(slot,), daemon=True) for slot in range(depth)]
    still = run(threads, lambda: stop.fill(1))
    if reader.WRONG in counts:
        raise ResourceError("what was read is not what was written: this storage changes bytes")
    if reader.SHORT in counts:
        raise ResourceError("a read failed or came back short")
    return ends, still
