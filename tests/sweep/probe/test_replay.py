"""The reading half of a replay: the right reads, the right bytes, and a time for each token."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator
from sweep.errors import InputError, ResourceError
from sweep.probe import reader, replay
from sweep.probe.grid import BUFFERED, DIRECT
from sweep.probe.image import Image, image
from sweep.probe.replay import Plan, Replayed, invalid, plan, runs

TOKENS, UNITS, UNIT_BYTES, ALIGN, SEED = 6, 50, 1500, 512, 9


def mask(*rows: str) -> NDArray[np.bool_]:
    """`mask("x..x")`: x is missed."""
    return np.array([[letter == "x" for letter in row] for row in rows])


@pytest.fixture(scope="module")
def misses() -> list[NDArray[np.bool_]]:
    draw = np.random.default_rng(3)
    masks = [draw.random((TOKENS, UNITS)) < 0.3 for _ in range(3)]
    masks[1][2] = False  # a phase without a read
    return masks


@pytest.fixture(scope="module")
def wanted(misses: list[NDArray[np.bool_]]) -> Plan:
    reads = [runs(masks, UNIT_BYTES, ALIGN) for masks in misses]
    return plan(misses, [UNIT_BYTES] * 3, reads, ALIGN)


@pytest.fixture
def made(tmp_path: Path, wanted: Plan) -> Iterator[Image]:
    with image(tmp_path, wanted.size, replay.content, SEED) as opened:
        yield opened


def mode_of(made: Image) -> str:
    return BUFFERED if made.direct is None or made.align > ALIGN else DIRECT


def test_runs_are_of_neighbours() -> None:
    missed = mask("xx.x..x.", "........", "xxxxxxxx")
    assert runs(missed, 10) == [[(0, 20), (30, 10), (60, 10)], [], [(0, 80)]]


def test_gaps_are_bridged_below_a_length() -> None:
    missed = mask("xx.x..x.")
    assert runs(missed, 10, bridge_bytes=10) == runs(missed, 10)
    assert runs(missed, 10, bridge_bytes=11) == [[(0, 40), (60, 10)]]
    assert runs(missed, 10, bridge_bytes=21) == [[(0, 70)]]


def test_reads_are_rounded_out_and_joined_where_they_share_a_block() -> None:
    assert runs(mask("x...x.x."), 10, align=16) == [[(0, 16), (32, 48)]]


@pytest.mark.parametrize("align", [1, 16, 512])
@pytest.mark.parametrize("bridge", [0, 301])
def test_every_plan_of_runs_reads_what_is_missed(align: int, bridge: int) -> None:
    draw = np.random.default_rng(align + bridge)
    masks = [draw.random((20, 40)) < share for share in (0.05, 0.5, 0.95)]
    reads = [runs(of_group, 100, align, bridge) for of_group in masks]
    made = plan(masks, [100] * 3, reads, align)
    region = -(-4000 // align) * align
    assert (made.tokens, made.groups, made.size) == (20, 3, 3 * region)
    asked = 100 * sum(int(of_group.sum()) for of_group in masks)
    assert made.lengths.sum() >= asked
    assert made.bytes_per_token == made.lengths.sum() / 20
    group = made.offsets // region
    of_phase = np.repeat(np.arange(60), np.diff(made.phases))
    assert (group == of_phase % 3).all()
    if align == 1 and bridge == 0:
        assert made.lengths.sum() == asked


@pytest.mark.parametrize("align", [1, 512])
def test_reads_are_those_that_the_simulator_counts(align: int) -> None:
    missed = np.random.default_rng(8).random((50, 200)) < 0.3
    cost = simulator.ReadCost(latency_us=2.5 * UNIT_BYTES / 1e3, gbps=1)  # as long as 2.5 units
    counts, sizes, _ = simulator.reads(missed, UNIT_BYTES, cost, align)
    done = runs(missed, UNIT_BYTES, align, bridge_bytes=2.5 * UNIT_BYTES)
    assert [len(of_token) for of_token in done] == counts.tolist()
    assert [sum(length for _, length in of_token) for of_token in done] == sizes.tolist()


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ([(0, 20)], "unit 3 is missed and in none of its reads"),
        ([], "unit 0 is missed"),
        ([(0, 20), (35, 10)], "not aligned to 10"),
        ([(0, 20), (30, 100)], "or beyond 80"),
        ([(30, 10), (0, 20)], "is not after the last"),
        ([(0, 0), (0, 40)], "a read of 0 bytes"),
    ],
)
def test_a_plan_that_does_not_do_is_refused(reads: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=f"group 0, token 0: .*{message}"):
        plan([mask("xx.x....")], [10], [[reads]], align=10)


def test_groups_and_tokens_must_agree() -> None:
    with pytest.raises(InputError, match="of the same groups and tokens"):
        plan([mask("x."), mask("x.", "x.")], [10, 10], [[[(0, 10)]], [[(0, 10)]]])


def test_words_of_the_image_are_known_by_their_place() -> None:
    all_words = reader.words(0, 1000, 4)
    assert (reader.words(300, 50, 4) == all_words[300:350]).all()
    assert len(np.unique(all_words)) == 1000
    # splitmix64 of seed 0, as published
    assert reader.words(0, 2, 0).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize("offset", [0, 8, 3, 1001])
@pytest.mark.parametrize("length", [8, 64, 61])
def test_bytes_are_compared_one_by_one(offset: int, length: int) -> None:
    octets = reader.words(0, 200, 7).view(np.uint8)
    got = np.zeros(10, np.uint64)
    got.view(np.uint8)[:length] = octets[offset : offset + length]
    assert reader.equal(got, offset, length, 7)
    assert not reader.equal(got, offset, length, 8)
    for place in (0, length // 2, length - 1):
        got.view(np.uint8)[place] ^= 1
        assert not reader.equal(got, offset, length, 7)
        got.view(np.uint8)[place] ^= 1


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_a_replay_reads_every_byte_and_times_every_token(
    made: Image, wanted: Plan, depth: int
) -> None:
    done = replay.replay(made, wanted, depth, repeats=4, mode=mode_of(made))
    assert done.seconds.shape == (4, TOKENS)
    assert (done.seconds > 0).all()
    assert done.checked_bytes == wanted.lengths.sum()
    middle, least, most = done.seconds_per_token
    assert least <= middle <= most
    assert done.rel_spread == pytest.approx((most - least) / middle)
    assert done.meeting_s >= 0


def test_threads_share_the_reads_of_each_phase(made: Image, wanted: Plan) -> None:
    counts = []
    for slot in range(4):
        marks = np.full(4 * reader.MARK, reader.GONE)  # nobody is waited for
        ends = np.zeros(len(wanted.phases), np.int64)
        buffer = np.zeros(int(wanted.lengths.max()) // 8, np.uint64)
        counts.append(
            reader.read_phases(
                made.buffered, wanted.offsets, wanted.lengths, wanted.phases, slot, 4,
                buffer, marks, ends, np.zeros(1, np.int64), SEED, replay.CHECK,
            )
        )  # fmt: skip
        assert slot or (np.diff(ends) >= 0).all()
    of_phase = np.diff(wanted.phases)
    assert counts == [int((np.maximum(of_phase - slot + 3, 0) // 4).sum()) for slot in range(4)]
    assert sum(counts) == len(wanted.offsets)


def test_a_changed_byte_is_found(made: Image, wanted: Plan) -> None:
    place = int(wanted.offsets[-1] + wanted.lengths[-1] - 1)
    old = os.pread(made.buffered, 1, place)
    os.pwrite(made.buffered, bytes([old[0] ^ 1]), place)
    os.fsync(made.buffered)
    with pytest.raises(ResourceError, match="this storage changes bytes"):
        replay.replay(made, wanted, 3, mode=mode_of(made))


def test_a_read_beyond_the_file_ends_all_threads(made: Image, wanted: Plan) -> None:
    os.ftruncate(made.buffered, wanted.size // 2)
    before = threading.active_count()
    with pytest.raises(ResourceError, match="a read failed or came back short"):
        replay.replay(made, wanted, 3, mode=mode_of(made))
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("depth", "repeats", "size", "message"),
    [(0, 3, None, "depth 0"), (2, 0, None, "repeats 0"), (2, 3, 512, "the image has 512 bytes")],
)
def test_bad_input_is_one_error(
    made: Image, wanted: Plan, depth: int, repeats: int, size: int | None, message: str
) -> None:
    made.size = size or made.size
    with pytest.raises(InputError, match=message):
        replay.replay(made, wanted, depth, repeats)


def test_refused_direct_io_is_one_error(made: Image, wanted: Plan) -> None:
    if made.direct is not None:
        os.close(made.direct)
    made.direct, made.refused = None, "EINVAL"
    with pytest.raises(ResourceError, match="direct I/O is refused here: EINVAL"):
        replay.replay(made, wanted, 2)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((0.0, 0.0, 1.0, 2.0, "ext4"), ""),
        ((None, 0.1, 1.0, None, ""), ""),
        ((0.0, 0.0, 1.0, None, "tmpfs"), "page cache: tmpfs is in memory"),
        ((0.5, 0.0, 1.0, None, "ext4"), "page cache: 50% of the image was in it"),
        ((0.0, 0.3, 1.0, None, "ext4"), "descheduled: stood still for 30% of the time"),
        ((0.0, 0.0, 3.0, 2.0, "ext4"), "above the interface: 3.00 of 2 GB/s"),
    ],
)
def test_what_is_not_valid_has_a_reason(
    given: tuple[float | None, float, float, float | None, str], reason: str
) -> None:
    assert invalid(*given) == reason


def test_the_time_of_a_token_is_the_median_of_valid_repeats() -> None:
    seconds = np.array([[1.0, 3.0], [2.0, 4.0], [9.0, 9.0], [4.0, 4.0]])
    done = Replayed(seconds, 0.0, 0, ("", "", "page cache", ""))
    assert done.valid
    assert done.seconds_per_token == (3, 2, 4)
    assert done.rel_spread == pytest.approx(2 / 3)
    unsound = Replayed(seconds, 0.0, 0, ("", "", "page cache", "page cache"))
    assert not unsound.valid
    assert unsound.seconds_per_token == (3.5, 2, 9)
