"""The second mode of a replay: products of what was read, equal to plain ones, and timed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sweep.errors import ResourceError
from sweep.probe import replay
from sweep.probe.grid import BUFFERED, DIRECT
from sweep.probe.image import Image, image
from sweep.replay.multiply import Work, multiply, resident, work
from sweep.replay.products import PRODUCTS, READS, add_column

TOKENS, UNITS, SIZES, ALIGN = 5, 40, (1500, 132, 67), 512
Bools = NDArray[np.bool_]


def plain_column(octets: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Weights of a column, block by block."""
    weights: list[float] = []
    for first in range(0, len(octets), 66):
        block = octets[first : first + 66].astype(np.int64)
        if len(block) < 3:
            break
        scale = (block[-2] + 256 * block[-1]) / 65536
        codes = block[:-2]
        weights += [float((code & 15) - 8) * scale for code in codes]
        weights += [float((code >> 4) - 8) * scale for code in codes]
    return np.array(weights)


@pytest.mark.parametrize("size", [2, 3, 66, 67, 68, 69, 132, 1500])
def test_a_column_is_that_of_a_plain_loop(size: int) -> None:
    octets = np.random.default_rng(size).integers(0, 256, size + 5, dtype=np.uint8)
    y = np.ones(4000, np.float32)
    add_column(octets, 3, size, np.float32(0.5), y)
    expected = plain_column(octets[3 : 3 + size])
    assert np.allclose(y[: len(expected)], 1 + 0.5 * expected, atol=1e-5)
    assert (y[len(expected) :] == 1).all()


def test_a_block_has_the_bits_of_the_simulator() -> None:
    assert 8 * 66 / len(plain_column(np.zeros(66, np.uint8))) == 4 + 16 / 128


class Case:
    """Used and missed units of three groups, and what is planned for them."""

    def __init__(self, seed: int = 3) -> None:
        draw = np.random.default_rng(seed)
        self.used: list[Bools] = [draw.random((TOKENS, UNITS)) < 0.5 for _ in SIZES]
        self.missed: list[Bools] = [u & (draw.random(u.shape) < 0.6) for u in self.used]
        self.missed[1][2] = False  # a phase without a read
        reads = [
            replay.runs(missed, size, ALIGN, 600)
            for missed, size in zip(self.missed, SIZES, strict=True)
        ]
        self.plan = replay.plan(self.missed, list(SIZES), reads, ALIGN)

    @property
    def work(self) -> Work:
        return work(self.plan, self.used, self.missed, SIZES, ALIGN)

    def plain_sums(self, octets: NDArray[np.uint8], x: NDArray[np.float32]) -> list[float]:
        """Of each phase, the sum of x · columns over its used units."""
        bases = np.cumsum([0, *(-(-UNITS * size // ALIGN) * ALIGN for size in SIZES)])
        sums: list[float] = []
        for token in range(TOKENS):
            for group, size in enumerate(SIZES):
                total = 0.0
                for unit in np.flatnonzero(self.used[group][token]).tolist():
                    place = int(bases[group]) + unit * size
                    factor = float(x[(place // size) % len(x)])
                    total += factor * plain_column(octets[place : place + size]).sum()
                sums.append(total)
        return sums


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.fixture
def made(tmp_path: Path, case: Case) -> Iterator[Image]:
    with image(tmp_path, case.plan.size, replay.content, 9) as opened:
        yield opened


def mode_of(made: Image) -> str:
    return BUFFERED if made.direct is None or made.align > ALIGN else DIRECT


def test_every_used_unit_is_multiplied_once(case: Case) -> None:
    columns = case.work
    assert len(columns.missed) == sum(int(missed.sum()) for missed in case.missed)
    used = sum(int(used.sum()) for used in case.used)
    assert len(columns.missed) + len(columns.hits) == used
    for read, (offset, length) in enumerate(zip(case.plan.offsets, case.plan.lengths, strict=True)):
        units = columns.missed[columns.missed_of[read] : columns.missed_of[read + 1]]
        group = int(np.searchsorted(case.plan.phases, read, side="right") - 1) % len(SIZES)
        assert len(units)
        assert (units >= offset).all()
        assert (units + SIZES[group] <= offset + length).all()
    by_group = [int(used.sum()) * size for used, size in zip(case.used, SIZES, strict=True)]
    assert columns.used_bytes(case.plan.phases).sum() == sum(by_group)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("task", [PRODUCTS, READS | PRODUCTS])
def test_products_are_plain_ones(made: Image, case: Case, depth: int, task: int) -> None:
    from sweep.replay.multiply import _round

    held = resident(made)
    x = np.random.default_rng(1).standard_normal(4096).astype(np.float32)
    descriptor = made.descriptor(mode_of(made))
    ends, sums, _ = _round(descriptor, case.plan, case.work, held, depth, task)
    assert sums == pytest.approx(case.plain_sums(held, x), rel=1e-3, abs=1e-2)
    assert (np.diff(ends) > 0).all()


def test_it_is_timed_and_valid_or_says_why_not(made: Image, case: Case) -> None:
    timed = multiply(made, case.plan, case.work, resident(made), 2, 3, mode=mode_of(made))
    assert timed.computing_s > 0
    assert timed.both_low_s <= timed.both_s <= timed.both_high_s
    assert len(timed.reasons) == 3


def test_a_wrong_byte_is_another_product(made: Image, case: Case) -> None:
    held = resident(made).copy()
    columns = case.work
    place = int(columns.missed[0])
    held[place : place + int(SIZES[0])] ^= 0xFF
    with pytest.raises(ResourceError, match="a product of what was read"):
        multiply(made, case.plan, columns, held, 2, 1, mode=mode_of(made))


def test_a_read_that_comes_back_short_ends_it(tmp_path: Path, case: Case) -> None:
    with image(tmp_path, case.plan.size, replay.content, 9) as made:
        held = resident(made)
        os.ftruncate(made.buffered, ALIGN)
        with pytest.raises(ResourceError, match="came back short"):
            multiply(made, case.plan, case.work, held, 2, 1, mode=mode_of(made))
