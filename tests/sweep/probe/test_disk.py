"""Reads of a cell: which, how many, and what happens when one fails."""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.probe import disk
from sweep.probe.grid import BUFFERED, DIRECT, KIB, MIB, RANDOM, SEQUENTIAL, Cell
from sweep.probe.image import Image, image

SIZE = 2 * MIB


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Image]:
    with image(tmp_path, SIZE) as opened:
        yield opened


@pytest.fixture
def offsets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where reads begin, in the order in which they are asked for."""
    seen: list[int] = []
    read = os.preadv

    def noted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        seen.append(offset)
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", noted)
    return seen


@pytest.mark.parametrize("depth", [1, 4])
def test_a_buffered_repeat_reads_every_block_once(
    made: Image, offsets: list[int], depth: int
) -> None:
    repeat = disk.measure(made, Cell(BUFFERED, RANDOM, 64 * KIB, depth), 30, seed=3)
    assert sorted(offsets) == list(range(0, SIZE, 64 * KIB))
    assert offsets != sorted(offsets)
    assert (repeat.reads, repeat.bytes) == (32, SIZE)
    assert repeat.elapsed_s < 10
    assert 0 < repeat.p50_us <= repeat.p99_us
    assert repeat.mbps == pytest.approx(SIZE / repeat.elapsed_s / 1e6)


def test_sequential_reads_follow_each_other(made: Image, offsets: list[int]) -> None:
    disk.measure(made, Cell(BUFFERED, SEQUENTIAL, 64 * KIB, 1), 30, seed=3)
    steps = {(b - a) % SIZE for a, b in itertools.pairwise(offsets)}
    assert steps == {64 * KIB}


def test_a_direct_repeat_goes_on_until_its_time_is_over(made: Image, offsets: list[int]) -> None:
    if made.direct is None:
        pytest.skip("no direct I/O here")
    repeat = disk.measure(made, Cell(DIRECT, RANDOM, MIB, 2), 0.1, seed=3)
    assert repeat.elapsed_s >= 0.1
    assert repeat.reads == len(offsets) > 2
    assert max(Counter(offsets).values()) - min(Counter(offsets).values()) <= 1
    assert repeat.cached in (0, None)
    assert 0 <= repeat.cpu_s < 1


def test_direct_reads_are_not_blamed_for_buffered_ones(made: Image) -> None:
    if made.direct is None:
        pytest.skip("no direct I/O here")
    for _ in range(2):
        buffered = disk.measure(made, Cell(BUFFERED, RANDOM, MIB, 1), 30, seed=3)
        direct = disk.measure(made, Cell(DIRECT, RANDOM, MIB, 1), 0.01, seed=3)
        assert buffered.cached in (0, None)
        assert direct.cached in (0, None)


def test_a_process_that_stands_still_is_noticed(
    made: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def holding(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        end = time.perf_counter() + 0.1
        while time.perf_counter() < end:  # and no other thread may run
            pass
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", holding)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5)
    try:
        repeat = disk.measure(made, Cell(BUFFERED, RANDOM, MIB, 1), 30, seed=3)
    finally:
        sys.setswitchinterval(interval)
    assert repeat.reads == 2
    assert 0.05 < repeat.still_s <= repeat.elapsed_s


def test_slow_storage_is_no_process_that_stands_still(
    made: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.preadv

    def slow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        time.sleep(0.3)
        return read(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", slow)
    repeat = disk.measure(made, Cell(BUFFERED, RANDOM, MIB, 1), 30, seed=3)
    assert repeat.longest_us > 300_000
    assert repeat.still_s < 0.3  # that of a busy machine at most


@pytest.mark.parametrize("mode", [DIRECT, BUFFERED])
def test_a_time_that_is_over_at_once_still_has_a_read(made: Image, mode: str) -> None:
    if mode == DIRECT and made.direct is None:
        pytest.skip("no direct I/O here")
    repeat = disk.measure(made, Cell(mode, RANDOM, 64 * KIB, 4), 1e-9, seed=3)
    assert 1 <= repeat.reads <= 4
    assert repeat.mbps > 0


def test_a_read_that_fails_ends_the_repeat(made: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="Input/output error"):
        disk.measure(made, Cell(BUFFERED, RANDOM, 4 * KIB, 4), 30, seed=3)


def test_a_short_read_is_an_error(made: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", lambda *_: 17)
    with pytest.raises(OSError, match="a read of 4096 bytes came back short"):
        disk.measure(made, Cell(BUFFERED, RANDOM, 4 * KIB, 1), 30, seed=3)


def test_ctrl_c_stops_the_readers(made: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    join = threading.Thread.join
    pressed: list[bool] = []

    def press(thread: threading.Thread, timeout: float | None = None) -> None:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", press)
    mode = BUFFERED if made.direct is None else DIRECT
    with pytest.raises(KeyboardInterrupt):
        disk.measure(made, Cell(mode, RANDOM, 4 * KIB, 4), 60, seed=3)
    assert threading.active_count() == before
