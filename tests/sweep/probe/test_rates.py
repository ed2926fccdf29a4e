"""Memory and compute: rates are of the bytes that were handled, and the product is right."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sweep.errors import ResourceError
from sweep.probe import compute, memory, system
from sweep.probe.grid import MIB


def test_the_kernel_multiplies_what_the_weights_are() -> None:
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 256, (20, 64), dtype=np.uint8)
    scales = draw.random((20, 4), dtype=np.float32)
    chosen = np.array([1, 4, 5, 19])
    x = draw.normal(size=4).astype(np.float32)
    y = np.ones(128, np.float32)
    compute.add_rows(codes, scales, chosen, x, y)
    expected = 1 + x @ compute.weights(codes, scales)[chosen]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_a_rate_is_bytes_over_time() -> None:
    def work() -> None:
        time.sleep(0.02)

    one = memory.rate_of("read", [work], 10**9, 0.1)
    two = memory.rate_of("read", [work, work], 10**9, 0.1)
    for rate in (one, two):
        assert 20 < rate.gbps_min <= rate.gbps <= rate.gbps_max <= 50
    assert (one.threads, two.threads) == (1, 2)


def test_memory_is_read_and_copied_by_threads() -> None:
    rates = memory.measure(0.05, [1, 2], 8 * MIB)
    assert [(rate.what, rate.threads) for rate in rates] == [
        ("read", 1),
        ("copy", 1),
        ("read", 2),
        ("copy", 2),
    ]
    assert memory.best(rates, "copy") == max(rates[1].gbps, rates[3].gbps) > 0.01


def test_weights_are_used_by_threads() -> None:
    rates = compute.measure(0.05, [1, 2], 8 * MIB)
    assert [rate.threads for rate in rates] == [1, 2]
    assert all(rate.what == "compute" and rate.gbps > 0.001 for rate in rates)


def test_arrays_shrink_to_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "free_memory", lambda: (600 * MIB, ""))
    assert memory.fitting(256 * MIB) == 64 * MIB
    monkeypatch.setattr(system, "free_memory", lambda: (16 * MIB, ""))
    with pytest.raises(ResourceError, match="17 MB of memory are free"):
        memory.fitting(256 * MIB)


def test_thread_counts_end_at_all_processors() -> None:
    counts = {cpus: memory.thread_counts(cpus) for cpus in (1, 2, 6, 8)}
    assert counts == {1: [1], 2: [1, 2], 6: [1, 2, 4, 6], 8: [1, 2, 4, 8]}
