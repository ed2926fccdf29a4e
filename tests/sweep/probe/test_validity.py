"""Flags and their reasons, on timings that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweep.probe.disk import Repeat
from sweep.probe.grid import BUFFERED, DIRECT, KIB, RANDOM, SEQUENTIAL, Cell
from sweep.probe.validity import (
    Limits,
    lost_to_others,
    processor_bound,
    reasons,
    row_of,
)

CELL = Cell(DIRECT, RANDOM, 64 * KIB, 1)
SOUND = Repeat(
    reads=1000,
    bytes=1000 * 64 * KIB,
    deadline_s=0.2,
    elapsed_s=0.201,
    cpu_s=0.02,
    waited_s=0.001,
    stolen_s=0.0,
    still_s=0.0,
    p50_us=190.0,
    p99_us=300.0,
    longest_us=400.0,
    cached=0.0,
)
LIMITS = Limits(interface_gbps=4.2, copy_gbps=10.0, align=512, cpus=2)


def test_a_sound_repeat_has_no_fault() -> None:
    assert reasons(CELL, SOUND, LIMITS) == []


@pytest.mark.parametrize(
    ("cell", "changes", "limits", "reason"),
    [
        # what is known of the page cache
        ({}, {"cached": 0.2}, {}, "page cache: 20% of the image was in it"),
        ({}, {}, {"in_memory": "tmpfs"}, "page cache: tmpfs is in memory"),
        ({"mode": BUFFERED}, {"cached": None}, {}, "page cache: whether it was empty"),
        # what is inferred
        ({}, {"p50_us": 2.0}, {}, "page cache: half of the reads took less than 2.0 µs"),
        ({}, {"elapsed_s": 0.008}, {"interface_gbps": None}, "page cache: as fast as copying"),
        # time
        ({}, {"elapsed_s": 0.26}, {}, "descheduled: took 0.26 s, was given 0.20 s"),
        ({}, {"still_s": 0.06, "elapsed_s": 0.3}, {}, "descheduled: stood still for 0.06 of"),
        ({}, {"cpu_s": 0.15, "stolen_s": 0.2}, {}, "descheduled: the host took processors"),
        ({}, {"waited_s": 0.06}, {}, "descheduled: others had the processors, 30% of the time"),
        ({}, {"elapsed_s": 0.012}, {}, "above the interface: 5.46 of 4.2 GB/s"),
        # how it was read
        ({"size": 65000}, {}, {}, "unaligned: 65000 bytes are no multiple of 512"),
        ({"mode": BUFFERED}, {}, {"refused": "EINVAL"}, "direct I/O refused: EINVAL"),
    ],
)
def test_each_trap_has_its_reason(
    cell: dict[str, object], changes: dict[str, object], limits: dict[str, object], reason: str
) -> None:
    made = replace(CELL, **cell), replace(SOUND, **changes), replace(LIMITS, **limits)  # type: ignore[arg-type]
    (fault,) = reasons(*made)
    assert fault.startswith(reason)


def test_a_large_read_in_flight_at_the_deadline_is_no_delay() -> None:
    late = replace(SOUND, elapsed_s=0.3, longest_us=90_000.0)
    assert reasons(CELL, late, LIMITS) == []


def test_read_ahead_may_answer_sequential_reads_at_once() -> None:
    assert reasons(replace(CELL, pattern=SEQUENTIAL), replace(SOUND, p50_us=2.0), LIMITS) == []


def test_theft_counts_by_what_the_reader_computed() -> None:
    half_stolen = replace(SOUND, elapsed_s=1.0, stolen_s=1.0, cpu_s=0.1)
    assert lost_to_others(half_stolen, 2) == pytest.approx(0.1)
    assert lost_to_others(replace(half_stolen, stolen_s=None), 2) == 0


def test_a_reader_that_keeps_the_processors_busy_is_the_bound() -> None:
    deep = replace(CELL, depth=4)
    crowded = replace(SOUND, waited_s=0.4, cpu_s=0.25)
    assert processor_bound(deep, crowded, 2)
    assert reasons(deep, crowded, LIMITS) == []
    assert not processor_bound(deep, replace(crowded, cpu_s=0.1), 2)  # others keep them busy
    assert not processor_bound(deep, replace(crowded, waited_s=0.1, cpu_s=0.15), 2)
    assert processor_bound(CELL, replace(SOUND, cpu_s=0.2, waited_s=None), 2)
    row = row_of(deep, [crowded] * 3, LIMITS)
    assert (row.valid, row.note) == (True, "the reader is the bound: at least this")


def test_a_row_is_the_median_of_valid_repeats() -> None:
    speeds = [replace(SOUND, bytes=int(mb * 201_000)) for mb in (300, 320, 340)]
    cached = replace(SOUND, bytes=10**8, cached=1.0)
    row = row_of(CELL, [*speeds, cached], LIMITS)
    assert row.valid
    assert (row.mbps, row.mbps_min, row.mbps_max) == pytest.approx((320, 300, 340))
    assert row.rel_spread == pytest.approx(40 / 320)
    assert (row.repeats, row.n, row.reason) == (3, 3000, "")
    assert row.note == "1 of 4 repeats left out: page cache: 100% of the image was in it"
    assert row.cache == "passed by; mincore: 0.0% of the image in it"


def test_a_row_with_one_valid_repeat_of_three_is_not_valid() -> None:
    cached = replace(SOUND, cached=1.0)
    assert not row_of(CELL, [SOUND], LIMITS).valid  # one repeat has no spread
    row = row_of(CELL, [SOUND, cached, cached], LIMITS)
    assert not row.valid
    assert row.reason == "page cache: 100% of the image was in it"
    assert row.repeats == 3
