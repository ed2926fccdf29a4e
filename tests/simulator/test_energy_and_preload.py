"""Energy as an interval, and the time of reading ahead, against sums by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simulator import Device, SimulatorError, joules, preloading

PHONE = Device.load("oneplus-15r")
PLAIN = Device("plain", 4, 1, 50)  # Flash 1e9 and DRAM 50e9 bytes per second


def test_energy_by_hand() -> None:
    # 1.77 GB of Flash and 6 GB of DRAM a token, as DIP-CA on Phi-3-Medium
    interval = joules(PHONE, 1.0, 1.77e9, 6e9)
    assert interval == (
        pytest.approx(0.24 * 1.77 + 0.04 * 7.77),
        pytest.approx(0.82 * 1.77 + 0.16 * 7.77),
    )
    idle = joules(dataclasses.replace(PHONE, idle_w=0.5), 2.0, 0, 0)
    assert idle == (1.0, 1.0)


def test_without_figures_there_is_no_energy() -> None:
    assert joules(PLAIN, 1.0, 1e9, 1e9) is None
    half = dataclasses.replace(PLAIN, idle_w=1, flash_nj_per_byte=[0.2, 0.8])  # type: ignore[arg-type]
    assert joules(half, 1.0, 1e9, 1e9) is None


def test_energy_of_nothing_negative() -> None:
    with pytest.raises(SimulatorError, match="Flash bytes is -1"):
        joules(PHONE, 1, -1, 0)


def by_hand(preload: list[float], compute: list[float], demand: list[float], span: int) -> float:
    """Steps one after the other; the next is loaded while one computes."""
    steps = range(0, len(preload), span)
    loads = [sum(preload[i : i + span]) for i in steps]
    computes = [sum(compute[i : i + span]) for i in steps]
    time = loads[0]
    for load, work in zip([*loads[1:], 0.0], computes, strict=True):
        time += max(work, load)
    return time + sum(demand)


@pytest.mark.parametrize("span", [1, 2, 3, 7, 10])
def test_time_is_that_of_the_steps(span: int) -> None:
    rng = np.random.default_rng(span)
    announced, demanded = rng.uniform(0, 2e7, (2, 5, 7))
    used = rng.uniform(0, 1e9, (5, 7))
    result = preloading(announced, used, demanded, PLAIN, span)
    expected = [
        by_hand((a / 1e9).tolist(), (u / 50e9).tolist(), (d / 1e9).tolist(), span)
        for a, u, d in zip(announced, used, demanded, strict=True)
    ]
    np.testing.assert_allclose(result.seconds, expected)
    assert (result.waiting >= 0).all()


def test_what_was_not_announced_is_waited_for() -> None:
    used, none = np.full((1, 4), 5e8), np.zeros((1, 4))
    reads = np.full((1, 4), 1e7)
    ahead, late = preloading(reads, used, none, PLAIN), preloading(none, used, reads, PLAIN)
    assert ahead.seconds[0] == pytest.approx(0.01 + 4 * 0.01)  # all but the first are hidden
    assert late.seconds[0] == pytest.approx(4 * 0.02)


def test_compute_and_reads_are_those_of_the_device() -> None:
    used, reads = np.full((1, 2), 62e6), np.full((1, 2), 2.0**20)
    cost = PHONE.read_cost()
    assert cost is not None
    result = preloading(reads, used, 0 * reads, PHONE)
    assert result.computing[0] == pytest.approx(2 * 62e6 / 31e9)
    assert result.waiting[0] == pytest.approx(cost(2.0**20))
    known = preloading(reads, used, 0 * reads, PHONE, announced_seconds=[[0.01, 0.02]])
    assert known.seconds[0] == pytest.approx(0.01 + 0.02 + 0.002)


def test_bad_input_is_one_clear_error() -> None:
    ones = np.ones((2, 3))
    with pytest.raises(SimulatorError, match=r"must be \[tokens, layers\]"):
        preloading(ones[0], ones, ones, PLAIN)
    with pytest.raises(SimulatorError, match="differ in shape"):
        preloading(ones, ones, ones[:1], PLAIN)
    with pytest.raises(SimulatorError, match="used_bytes has a value"):
        preloading(ones, -ones, ones, PLAIN)
    with pytest.raises(SimulatorError, match="span is 0"):
        preloading(ones, ones, ones, PLAIN, 0)
