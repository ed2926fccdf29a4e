"""Reads: equal to a plain twin, cheaper than any other plan, the paper's without latency."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given

import simulator
from simulator import ReadCost, ReadCounts, SimulatorError
from simulator.read_sizes import PER_OCTAVE
from tests.simulator.cases import many
from tests.simulator.plain_reads import (
    ReadCase,
    every_plan,
    plan_plainly,
    read_cases,
    seconds_of,
)

PHONE = ReadCost.table([(16384, 0.723), (65536, 1.962), (262144, 2.646), (1048576, 2.806)])


def check_against_the_twin(case: ReadCase) -> None:
    masks, file, cost = case.masks, case.file, case.cost
    arguments = (masks, case.unit_bytes, cost, case.align_bytes)
    count, read_bytes, seconds = simulator.reads(*arguments)
    plans = [plan_plainly(row, file, cost) for row in masks.tolist()]
    cells = [sum(file.cells(*read) for read in plan) for plan in plans]
    np.testing.assert_array_equal(count, [len(plan) for plan in plans])
    np.testing.assert_array_equal(read_bytes, [total * file.cell for total in cells])
    slow = [seconds_of(plan, file, cost) for plan in plans]
    np.testing.assert_allclose(seconds, slow, rtol=1e-12)
    check_counts(case, simulator.read_counts(*arguments))
    sizes = [file.cells(*read) * file.cell for plan in plans for read in plan]
    powers = [max(0, math.floor(math.log2(size))) for size in sizes]
    counts = simulator.read_counts(*arguments)
    assert counts.histogram == {2**p: powers.count(p) for p in set(powers)}


def check_counts(case: ReadCase, counts: ReadCounts) -> None:
    count, read_bytes, seconds = simulator.reads(
        case.masks, case.unit_bytes, case.cost, case.align_bytes
    )
    assert (counts.tokens, counts.reads) == (case.tokens, count.sum())
    assert counts.read_bytes == pytest.approx(read_bytes.sum())
    assert counts.missed_bytes == case.masks.sum() * case.unit_bytes
    assert counts.seconds == pytest.approx(seconds.sum())
    assert sum(reads for _, reads, _ in counts.sizes) == counts.reads
    assert ReadCounts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


ALL = ReadCase(1, 3, 130, "all", "normal", 594, 4096, True, 1.0, 5, False)
NONE = ReadCase(1, 3, 130, "none", "normal", 594, 4096, False, 1.0, 5, False)


@given(read_cases())
@example(ALL)
@example(NONE)
@many(500)
def test_they_equal_the_plain_twin(case: ReadCase) -> None:
    check_against_the_twin(case)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@given(read_cases())
@many(10000)
def test_they_equal_the_plain_twin_at_length(case: ReadCase) -> None:
    check_against_the_twin(case)


@given(read_cases(most_units=18, most_tokens=2))
@many(300)
def test_no_other_way_to_bridge_gaps_is_cheaper(case: ReadCase) -> None:
    _, _, seconds = simulator.reads(case.masks, case.unit_bytes, case.cost, case.align_bytes)
    for row, taken in zip(case.masks.tolist(), seconds, strict=True):
        least = min(seconds_of(plan, case.file, case.cost) for plan in every_plan(row))
        assert taken == pytest.approx(least, rel=1e-9)


def test_without_latency_it_is_the_papers_arithmetic_bit_for_bit() -> None:
    missed = np.random.default_rng(0).random((200, 5120)) < 0.3
    unit = 18546.0
    count, read_bytes, seconds = simulator.reads(missed, unit, ReadCost(gbps=1.3))
    np.testing.assert_array_equal(read_bytes, missed.sum(axis=1) * unit)
    np.testing.assert_array_equal(seconds, missed.sum(axis=1) * unit / (1.3 * 1e9))
    edges = np.diff(missed.astype(np.int8), axis=1, prepend=0)
    np.testing.assert_array_equal(count, (edges == 1).sum(axis=1))


def masks_of(text: str) -> np.ndarray:
    return np.array([[letter == "x" for letter in text]])


def test_by_hand() -> None:
    cost = ReadCost(latency_us=3, gbps=1)  # as long as 3,000 bytes
    missed = masks_of("xx.x..x...x....xx")
    count, read_bytes, seconds = simulator.reads(missed, 1000, cost)
    assert (count[0], read_bytes[0]) == (3, 7000 + 1000 + 2000)  # equal cost: read apart
    assert seconds[0] == pytest.approx(19e-6)
    counts = simulator.read_counts(missed, 1000, cost)
    assert (counts.wasted, counts.mean_bytes) == (pytest.approx(0.3), pytest.approx(10000 / 3))
    assert counts.histogram == {512: 1, 1024: 1, 4096: 1}


def test_alignment_rounds_each_read_outward() -> None:
    cost = ReadCost(latency_us=0.5, gbps=1)
    for text, expected in (
        ("..x.......", (1, 512)),  # bytes 600 to 900: block 1
        ("x.........", (1, 512)),
        ("x..x......", (1, 1536)),  # to 1,200: blocks 0 and 1, 2 touch, so they are one read
        ("x...x.....", (2, 1024)),
        ("........x.", (1, 1024)),  # bytes 2,400 to 2,700: blocks 4 and 5
    ):
        count, read_bytes, _ = simulator.reads(masks_of(text), 300, cost, 512)
        assert (count[0], read_bytes[0]) == expected, text


def test_a_layout_of_gaps_serves_every_affine_law() -> None:
    missed = np.random.default_rng(5).random((50, 700)) < 0.2
    gaps, lengths = simulator.gap_counts(missed), np.arange(701)
    for latency in (0, 1, 5, 7.5, 40):
        counts = simulator.read_counts(missed, 1000, ReadCost(latency_us=latency, gbps=1))
        most = max(0, math.ceil(latency) - 1)
        assert counts.reads == gaps[most + 1 :].sum() + gaps[0]
        read = missed.sum() + (gaps * lengths)[1 : most + 1].sum()
        assert counts.read_bytes == read * 1000


def test_sizes_are_enough_for_another_cost() -> None:
    missed = np.random.default_rng(5).random((100, 1500)) < 0.5
    cost = ReadCost(latency_us=13.9, gbps=2.95)
    counts = simulator.read_counts(missed, 9500, cost)
    assert counts.seconds_at(cost) == pytest.approx(counts.seconds, rel=1e-12)
    table = simulator.read_counts(missed, 9500, PHONE)
    assert table.seconds_at(PHONE) == pytest.approx(table.seconds, rel=0.005)
    assert all(2 ** (c / PER_OCTAVE) <= size / n * 1.0001 for c, n, size in table.sizes)


def test_counts_add_up() -> None:
    missed = np.random.default_rng(6).random((9, 200)) < 0.3
    parts = [simulator.read_counts(part, 594, PHONE) for part in np.split(missed, 3)]
    together, whole = parts[0].merge(parts[1:]), simulator.read_counts(missed, 594, PHONE)
    assert together.sizes == whole.sizes
    assert (together.tokens, together.reads) == (whole.tokens, whole.reads)
    assert together.seconds == pytest.approx(whole.seconds)


def test_packed_masks_give_the_same() -> None:
    missed = np.random.default_rng(7).random((5, 128)) < 0.5
    for cost in (PHONE, ReadCost(latency_us=3, gbps=1)):
        plain = simulator.reads(missed, 4000, cost)
        packed = simulator.reads(simulator.pack(missed), 4000, cost, units=128)
        for one, other in zip(plain, packed, strict=True):
            np.testing.assert_array_equal(one, other)


def test_no_tokens() -> None:
    none = np.zeros((0, 5), np.bool_)
    assert [part.size for part in simulator.reads(none, 10, PHONE)] == [0, 0, 0]
    counts = simulator.read_counts(none, 10, PHONE)
    assert (counts.reads, counts.wasted, counts.mean_bytes, counts.sizes) == (0, 0, 0, ())


ONE = np.ones((1, 3), np.bool_)
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "no size": (lambda: simulator.reads(ONE, 0, PHONE), "unit_bytes is 0"),
    "no alignment": (lambda: simulator.reads(ONE, 1, PHONE, 0), "align_bytes is 0"),
    "half a byte": (lambda: simulator.reads(ONE, 1, PHONE, 1.5), "must be a whole number"),  # type: ignore[arg-type]
    "one token": (lambda: simulator.reads(ONE[0], 1, PHONE), r"must be \[tokens, units\]"),
    "numbers": (lambda: simulator.reads(ONE * 1, 1, PHONE), "must be bool"),
    "packed": (lambda: simulator.reads(ONE, 1, PHONE, units=3), "uint64"),
    "a field": (lambda: ReadCounts.from_json({"tokens": 1}), "lack the field 'reads'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_error(case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(SimulatorError, match=words):
        call()
