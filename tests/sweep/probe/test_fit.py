"""Curves of rows, and the affine law of curves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sweep.probe import fit
from sweep.probe.grid import BUFFERED, DIRECT, KIB, RANDOM, READ_SIZES, SEQUENTIAL
from sweep.probe.validity import Row


def row(size: int, seconds: float, depth: int = 1, **changes: object) -> Row:
    mbps = size / seconds / 1e6
    figures: dict[str, object] = {"mode": DIRECT, "pattern": RANDOM, "backend": "threads"}
    figures |= {"mbps": mbps, "mbps_min": mbps, "mbps_max": mbps, "rel_spread": 0.0}
    figures |= {"p50_us": 1e6 * seconds, "p99_us": 1e6 * seconds, "n": 1, "elapsed_s": 1.0}
    figures |= {"cpu_s": 0.1, "repeats": 3, "valid": True, "reason": "", "note": "", "cache": ""}
    return Row(size_kb=size / KIB, depth=depth, **figures | changes)  # type: ignore[arg-type]


def law(size: int, latency_us: float = 110, gbps: float = 1.99) -> float:
    return latency_us / 1e6 + size / gbps / 1e9


def test_a_known_affine_law_is_found_again() -> None:
    (curve,) = fit.curves([row(size, law(size)) for size in READ_SIZES])
    fitted = fit.affine(curve)
    assert fitted.latency_us == pytest.approx(110, rel=2e-3)
    assert fitted.gbps == pytest.approx(1.99, rel=2e-3)
    assert abs(fitted.worst[1]) < 2e-3
    assert curve.reads_per_s == pytest.approx(1 / law(4096), rel=1e-3)


def test_residuals_name_the_size_that_is_off() -> None:
    times = {size: law(size) for size in READ_SIZES} | {128 * KIB: 1.3 * law(128 * KIB)}
    (curve,) = fit.curves([row(size, time) for size, time in times.items()])
    size, error = fit.affine(curve).worst
    assert size == 128 * KIB
    assert -0.25 < error < -0.15


def test_a_latency_is_never_negative() -> None:
    (curve,) = fit.curves([row(4096, 1e-6), row(8192, 3e-6), row(16384, 9e-6)])
    fitted = fit.affine(curve)
    assert fitted.latency_us == 0
    assert fitted.gbps > 0


def test_a_larger_read_that_takes_less_time_is_dropped_and_said() -> None:
    times = [1e-4, 2e-4, 9e-4, 3e-4, 4e-4]
    (curve,) = fit.curves([row(size, t) for size, t in zip(READ_SIZES, times, strict=False)])
    assert [size for size, _ in curve.points] == [4 * KIB, 8 * KIB, 32 * KIB, 64 * KIB]
    assert curve.dropped == ("depth 1, 16 KiB: a larger read would take less time",)
    seconds = [size / gbps for size, gbps in curve.points]
    assert seconds == sorted(seconds)


def test_the_longest_increasing_run_is_found() -> None:
    draw = np.random.default_rng(5)
    for _ in range(300):
        times = draw.integers(0, 8, draw.integers(1, 8)).astype(float).tolist()
        kept = fit.increasing(times)
        assert all(times[a] < times[b] and a < b for a, b in itertools.pairwise(kept))
        longest = max(
            len(places)
            for count in range(len(times) + 1)
            for places in itertools.combinations(range(len(times)), count)
            if all(times[a] < times[b] for a, b in itertools.pairwise(places))
        )
        assert len(kept) == longest


def test_only_valid_random_direct_rows_make_a_curve() -> None:
    rows = [row(size, law(size)) for size in READ_SIZES[:3]]
    rows += [row(MIB, law(MIB), valid=False) for MIB in READ_SIZES[8:]]
    rows += [row(size, law(size), depth=2, mode=BUFFERED) for size in READ_SIZES]
    rows += [row(size, law(size), depth=4, pattern=SEQUENTIAL) for size in READ_SIZES]
    rows += [row(READ_SIZES[0], 1e-4, depth=8)]  # one point is no curve
    (curve,) = fit.curves(rows)
    assert curve.depth == 1
    assert len(curve.points) == 3


def test_the_best_depth_is_the_least_of_those_that_are_as_good() -> None:
    speeds = {1: 1.0, 2: 1.8, 4: 2.96, 8: 3.0, 16: 2.9}
    rows = [row(size, law(size) / v, d) for d, v in speeds.items() for size in READ_SIZES]
    assert fit.best_depth(fit.curves(rows)) == 4


def test_the_largest_direct_throughput_counts_sequential_rows_too() -> None:
    rows = [row(4096, 1e-5), row(4096, 4e-6, pattern=SEQUENTIAL), row(4096, 1e-6, mode=BUFFERED)]
    assert fit.most_gbps(rows) == pytest.approx(1.024)
    assert fit.most_gbps([]) == 0
