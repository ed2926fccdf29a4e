"""Exact counts for fixed traces: they change only if the meaning of a policy changes.

The traces come from a hash, so that they do not depend on a random generator. Small ones can be
checked with the plain reference, which made these numbers.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

import simulator
from simulator import policies

TOKENS, UNITS, K = 400, 300, 120


def uniform(stream: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in [0, 1), the same everywhere: splitmix64 of their places."""
    with np.errstate(over="ignore"):
        x = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(stream << 32)
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


@functools.cache
def scores() -> NDArray[np.float32]:
    """Magnitudes with units that are large in most tokens, and phases of 50 tokens."""
    liking = uniform(1, (UNITS,)) + np.repeat(uniform(2, (TOKENS // 50, UNITS)), 50, axis=0)
    return (uniform(3, (TOKENS, UNITS)) + liking).astype(np.float32)


@functools.cache
def masks() -> NDArray[np.bool_]:
    return simulator.top_k(scores(), K)


@functools.cache
def start() -> NDArray[np.intp]:
    return np.argsort(-scores().mean(axis=0), kind="stable")


# (policy, hot start) -> total hits with 30, 90, 120, 200 and 300 slots; 48,000 units are used
HITS: dict[tuple[str, bool], list[int]] = {
    ("none", False): [0, 0, 0, 0, 0],
    ("none", True): [0, 0, 0, 0, 0],
    ("lru", False): [11386, 26950, 31973, 44915, 47700],
    ("lru", True): [11434, 27021, 32047, 45072, 48000],
    ("lfu", False): [10365, 26759, 31973, 43478, 47700],
    ("lfu", True): [10404, 26819, 32047, 43630, 48000],
    ("belady", False): [10016, 29361, 31973, 46533, 47700],
    ("belady", True): [10109, 29418, 32047, 46710, 48000],
    ("min", False): [11970, 33772, 39455, 46663, 47700],
    ("min", True): [11994, 33844, 39549, 46843, 48000],
    ("static", True): [9636, 25109, 31314, 42489, 48000],
    ("window-2", False): [11386, 26950, 31973, 39316, 39316],
    ("window-2", True): [11434, 27021, 32047, 39457, 39481],
    ("window-5", False): [11386, 26950, 31973, 44752, 45175],
    ("window-5", True): [11434, 27021, 32047, 44909, 45389],
    ("lfu-admit", False): [9512, 24804, 30963, 42180, 47700],
    ("lfu-admit", True): [9551, 24864, 31037, 42332, 48000],
    ("lfru", False): [10365, 26759, 31973, 44877, 47700],
    ("lfru", True): [10404, 26819, 32047, 45029, 48000],
    ("slru", False): [8246, 23958, 31833, 45005, 47700],
    ("slru", True): [8505, 24321, 31908, 45169, 48000],
    ("hot-set", True): [9636, 25109, 31314, 42489, 48000],
}

# (policy, gamma) -> total hits with 30, 90, 120, 200 and 300 slots
CACHE_AWARE: dict[tuple[str, float], list[int]] = {
    ("lfu", 1.0): [10365, 26759, 31973, 43478, 47700],
    ("lfu", 0.5): [11946, 35784, 47544, 47836, 47836],
    ("lfu", 0.2): [11968, 35900, 47859, 47874, 47874],
    ("lru", 1.0): [11386, 26950, 31973, 44915, 47700],
    ("lru", 0.5): [11945, 35792, 47544, 47836, 47836],
    ("lru", 0.2): [11968, 35900, 47859, 47874, 47874],
}

SLOTS = (30, 90, 120, 200, 300)


@pytest.mark.parametrize(("policy", "hot"), HITS)
def test_hits(policy: str, hot: bool) -> None:
    order = start() if hot else None
    found = [int(simulator.simulate(masks(), slots, policy, order).sum()) for slots in SLOTS]
    assert found == HITS[policy, hot]


@pytest.mark.parametrize(("policy", "gamma"), CACHE_AWARE)
def test_cache_aware_hits(policy: str, gamma: float) -> None:
    found = [simulator.cache_aware(scores(), K, slots, gamma, policy)[1].sum() for slots in SLOTS]
    assert [int(hits) for hits in found] == CACHE_AWARE[policy, gamma]


def test_the_lru_curve() -> None:
    curve = simulator.lru_curve(masks())
    assert curve[list(SLOTS)].tolist() == HITS["lru", False]


@pytest.mark.parametrize(("policy", "hot"), HITS)
def test_the_reference_gives_these_counts(policy: str, hot: bool) -> None:
    order = start().tolist() if hot else None
    assert int(policies.simulate_plainly(masks(), 90, policy, order).sum()) == HITS[policy, hot][1]


def test_the_trace_itself() -> None:
    assert uniform(0, (3,)).tolist() == [
        0.8833108082136426,
        0.43152799704850997,
        0.026433771592597743,
    ]
    assert int(masks().sum()) == TOKENS * K
    assert int((masks() * np.arange(UNITS)).sum()) == 7271138
