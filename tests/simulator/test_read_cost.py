"""What a read costs: the affine law, tables, and what lies beyond their ends."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from simulator.errors import SimulatorError
from simulator.read_cost import ReadCost

ROWS = [(16384, 0.151), (65536, 0.444), (131072, 0.625), (1048576, 1.549), (4194304, 2.114)]
TABLE = ReadCost.table(ROWS)


def test_the_affine_law() -> None:
    cost = ReadCost(latency_us=110, gbps=2)
    assert cost(20_000) == pytest.approx(120e-6)
    assert cost(0) == 0
    np.testing.assert_allclose(cost([0, 2000, 20_000]), [0, 111e-6, 120e-6])
    assert isinstance(cost(1), float)


def test_without_latency_it_is_the_papers_flash() -> None:
    cost, sizes = ReadCost(gbps=1.3), np.array([1.0, 18.5e3, 1e9])
    np.testing.assert_array_equal(cost(sizes), sizes / 1.3e9)


@pytest.mark.parametrize(("size", "gbps"), ROWS)
def test_a_table_says_what_its_rows_say(size: int, gbps: float) -> None:
    assert TABLE(size) == pytest.approx(size / gbps * 1e-9, rel=1e-12)


def test_between_rows_throughput_is_a_line_in_log_log() -> None:
    middle = math.sqrt(16384 * 65536)
    assert middle / TABLE(middle) * 1e-9 == pytest.approx(math.sqrt(0.151 * 0.444), rel=1e-12)


def test_beyond_the_ends_the_affine_law_of_two_rows_holds() -> None:
    times = [size / gbps * 1e-9 for size, gbps in ROWS]
    first = (times[1] - times[0]) / (65536 - 16384)
    last = (times[-1] - times[-2]) / (4194304 - 1048576)
    assert TABLE(4096) == pytest.approx(times[0] - 12288 * first)
    assert TABLE(2**25) == pytest.approx(times[-1] + (2**25 - 4194304) * last)
    assert TABLE(2**25) == pytest.approx(TABLE.latency_us * 1e-6 + 2**25 / TABLE.gbps * 1e-9)
    assert (TABLE.affine_from, TABLE.affine) == (4194304, False)


def test_below_a_falling_start_time_is_never_negative() -> None:
    cost = ReadCost.table([(1000, 2), (2000, 1)])
    assert cost(500) == pytest.approx(500 / 2e9)
    assert cost(3000) == pytest.approx(3.5e-6)
    assert cost.latency_us == pytest.approx(-1)


def test_a_larger_read_takes_longer() -> None:
    sizes = np.geomspace(1, 1e8, 5000)
    for cost in (TABLE, ReadCost.table([(1000, 2), (2000, 1), (3000, 1.4)])):
        times = cost(sizes)
        assert times[0] > 0
        assert (np.diff(times) > 0).all()


def test_it_is_a_value() -> None:
    assert ReadCost.table([list(row) for row in ROWS]) == TABLE
    assert hash(dataclasses.replace(TABLE)) == hash(TABLE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TABLE.gbps = 3  # type: ignore[misc]


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "one row": (lambda: ReadCost.table([(4096, 1)]), "has 1 rows"),
    "no rows": (lambda: ReadCost.table([]), "has 0 rows"),
    "three numbers": (lambda: ReadCost.table([(1, 2, 3), (4, 5, 6)]), "rows of [bytes, gbps]"),
    "descending": (lambda: ReadCost.table([(8192, 1), (4096, 1)]), "4096 bytes come after 8192"),
    "twice": (lambda: ReadCost.table([(4096, 1), (4096, 2)]), "sizes must ascend"),
    "no speed": (lambda: ReadCost.table([(4096, 0), (8192, 1)]), "gbps at 4096 bytes is 0"),
    "no size": (lambda: ReadCost.table([(0, 1), (8192, 1)]), "size in bytes is 0"),
    "words": (lambda: ReadCost.table([("a", 1), (8192, 1)]), "size in bytes is 'a'"),  # type: ignore[list-item]
    "faster than time": (lambda: ReadCost.table([(4096, 1), (8192, 2)]), "takes no more time"),
    "latency": (lambda: ReadCost(latency_us=-1, gbps=1), "latency_us is -1"),
    "gbps": (lambda: ReadCost(gbps=0), "gbps is 0"),
    "negative": (lambda: TABLE(-1), "at least 0 bytes"),
    "not a number": (lambda: TABLE(math.nan), "at least 0 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_clear_error(case: str) -> None:
    call, words = WRONG[case]
    with pytest.raises(SimulatorError, match=re.escape(words)):
        call()
