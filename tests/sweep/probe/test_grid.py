"""Cells, and which of them a time allows."""

from __future__ import annotations

import pytest

from sweep.errors import InputError
from sweep.probe.grid import (
    DEPTHS,
    DIRECT,
    KIB,
    LEAST_SECONDS,
    MIB,
    MOST_SECONDS,
    RANDOM,
    READ_SIZES,
    REPEATS,
    Cell,
    bytes_of,
    cells,
    size_text,
    within,
)


def curve_of(chosen: list[Cell]) -> list[Cell]:
    return [cell for cell in chosen if (cell.mode, cell.pattern) == (DIRECT, RANDOM)]


def test_the_grid_is_4_kib_to_4_mib_by_1_to_16() -> None:
    assert (READ_SIZES[0], READ_SIZES[-1], len(READ_SIZES)) == (4 * KIB, 4 * MIB, 11)
    assert len(cells()) == 4 * 11 * 5
    assert curve_of(cells()) == cells()[:55]


def test_with_time_for_all_nothing_is_skipped() -> None:
    chosen, each = within(cells(), 220 * REPEATS * 0.2)
    assert chosen == cells()
    assert each == pytest.approx(0.2)
    assert within(cells()[:2], 1e4)[1] == MOST_SECONDS


@pytest.mark.parametrize("seconds", [3, 10, 20, 40])
def test_short_of_time_the_curve_keeps_its_ends(seconds: float) -> None:
    chosen, each = within(cells(), seconds)
    assert len(chosen) * REPEATS * each <= seconds * 1.001
    assert each >= LEAST_SECONDS * 0.99
    curve = curve_of(chosen)
    sizes = sorted({cell.size for cell in curve})
    depths = sorted({cell.depth for cell in curve})
    assert len(curve) == len(sizes) * len(depths)
    assert (sizes[0], sizes[-1]) == (READ_SIZES[0], READ_SIZES[-1])
    assert (depths[0], depths[-1]) == (DEPTHS[0], DEPTHS[-1])


def test_what_is_left_is_spread_over_all_other_kinds() -> None:
    chosen, _ = within(cells(), (55 + 30.5) * REPEATS * LEAST_SECONDS)
    others = [cell for cell in chosen if cell not in curve_of(chosen)]
    assert len(others) == 30
    assert {cell.depth for cell in others} == set(DEPTHS)
    assert {cell.size for cell in others} == set(READ_SIZES)
    kinds = [(cell.mode, cell.pattern) for cell in others]
    assert all(8 <= kinds.count(kind) <= 12 for kind in set(kinds))


def test_two_cells_stay_however_short_the_time() -> None:
    chosen, each = within(cells(), 0.01, beside=0.02)
    assert len(chosen) == 2
    assert each == pytest.approx(LEAST_SECONDS / 5)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("4KiB", 4096), ("4k", 4096), ("0.5 MB", 512 * KIB), ("1GiB", 1 << 30)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert bytes_of(text, "--size") == size


@pytest.mark.parametrize("text", ["", "-1", "4 TiB x", "0", "MiB", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--size"):
        bytes_of(text, "--size")


def test_sizes_are_written() -> None:
    assert [size_text(size) for size in (512, 4096, 3 * MIB // 2, 1 << 30)] == [
        "512 bytes",
        "4 KiB",
        "1.5 MiB",
        "1 GiB",
    ]
