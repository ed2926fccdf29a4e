"""Where one unit is requested per step, an independent simulator must miss as often as ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator

libcachesim = pytest.importorskip(
    "libcachesim", reason="libcachesim, a development dependency, is not installed"
)

_RECORD = [("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]
_LARGEST_TABLE = 12  # log2 of its hash table: small, for it is allocated for each simulation


def zipf(units: int, requests: int, slope: float, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, units + 1) ** slope
    return rng.permutation(units)[rng.choice(units, size=requests, p=weights / weights.sum())]


TRACES = {
    "uniform": np.random.default_rng(0).integers(0, 50, 3000),
    "zipf": zipf(400, 6000, 0.9, 1),
    "steep zipf": zipf(1000, 6000, 1.3, 2),
    "loop": np.tile(np.arange(60), 50),
    "phases": np.concatenate([zipf(80, 1500, 0.8, s) + 40 * s for s in range(4)]),
}


def misses_of_theirs(folder: Path, requests: Sequence[int], policy: str, capacity: int) -> int:
    records = np.zeros(len(requests), _RECORD)
    records["time"], records["id"], records["size"] = np.arange(len(requests)), requests, 1
    following: dict[int, int] = {}
    for place in range(len(requests) - 1, -1, -1):
        unit = int(requests[place])
        records["next"][place] = following.get(unit, -1)
        following[unit] = place
    path = folder / "trace.oracleGeneral"
    records.tofile(path)
    reader = libcachesim.TraceReader(
        str(path), trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE
    )
    cache = getattr(libcachesim, policy)(capacity, hashpower=_LARGEST_TABLE)
    ratio, _ = cache.process_trace(reader)
    return round(ratio * len(requests))


def misses_of_ours(requests: Sequence[int], policy: str, capacity: int) -> int:
    masks = np.zeros((len(requests), int(max(requests)) + 1), dtype=bool)
    masks[np.arange(len(requests)), requests] = True
    return len(requests) - int(simulator.simulate(masks, capacity, policy).sum())


@pytest.mark.parametrize("capacity", [1, 7, 50, 100])
@pytest.mark.parametrize("policy", ["LRU", "Belady"])
@pytest.mark.parametrize("trace", TRACES)
def test_equal_misses(trace: str, policy: str, capacity: int, tmp_path: Path) -> None:
    requests = TRACES[trace].tolist()
    theirs = misses_of_theirs(tmp_path, requests, policy, capacity)
    assert misses_of_ours(requests, policy.lower(), capacity) == theirs


@pytest.mark.parametrize("trace", TRACES)
def test_the_lru_curve_has_their_misses(trace: str, tmp_path: Path) -> None:
    requests = TRACES[trace]
    masks = np.zeros((len(requests), int(requests.max()) + 1), dtype=bool)
    masks[np.arange(len(requests)), requests] = True
    curve = simulator.lru_curve(masks)
    for capacity in (2, 13, 39):
        theirs = misses_of_theirs(tmp_path, requests.tolist(), "LRU", capacity)
        assert len(requests) - curve[capacity] == theirs


@pytest.mark.parametrize("seed", range(5))
def test_lfu_where_both_break_no_ties(seed: int, tmp_path: Path) -> None:
    """Units used often, no two equally often, among units used once: no tie, no return.

    Elsewhere the two differ by definition: theirs forgets the uses of an evicted unit, and breaks
    ties by recency.
    """
    rng = np.random.default_rng(seed)
    often, capacity = 9, 10
    first = np.repeat(np.arange(often), 2 + np.arange(often))  # unit i: i + 2 uses
    later = np.concatenate([np.arange(often), np.arange(often, 60)])
    requests = [*first.tolist(), *rng.permutation(later).tolist()]
    theirs = misses_of_theirs(tmp_path, requests, "LFU", capacity)
    assert misses_of_ours(requests, "lfu", capacity) == theirs
