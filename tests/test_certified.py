"""Ratios of what two runs certify, with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.certified import _jackknife


def test_a_ratio_that_is_the_same_in_every_task_has_no_interval() -> None:
    fast = np.array([1.0, 1.5, 0.8, 1.1])
    ratio, reach = _jackknife(np.stack([1.2 * fast, fast], axis=1))
    assert ratio == pytest.approx(1.2)
    assert reach == pytest.approx(0, abs=1e-12)


def test_its_interval_is_that_of_leaving_out_one_task_after_another() -> None:
    times = np.random.default_rng(3).uniform(1, 2, (16, 2))
    ratio, reach = _jackknife(times)
    left = [np.delete(times, i, axis=0).mean(axis=0) for i in range(16)]
    without = np.array([slow / fast for slow, fast in left])
    spread = np.sqrt(15 / 16 * ((without - without.mean()) ** 2).sum())
    assert ratio == pytest.approx(times[:, 0].mean() / times[:, 1].mean())
    assert reach == pytest.approx(2.1314 * spread, rel=1e-4)
