"""A policy of one's own: one small file, known to everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import simulator
from simulator import POLICIES, Policy, SimulatorError, Trace, policies

MRU = """
from simulator import Policy, register


@register
class MRU(Policy):
    name = "mru"
    description = "evicts the most recent last use"

    def __init__(self, units, start):
        super().__init__(units, start)
        self.last = [-1] * units

    def observe(self, token, used):
        for unit in used:
            self.last[unit] = token

    def worth(self, unit):
        return -self.last[unit], -unit
"""


@pytest.fixture
def registry() -> Iterator[None]:
    known, classes = dict(POLICIES), dict(policies._CLASSES)
    yield
    for table, before in ((POLICIES, known), (policies._CLASSES, classes)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]


@pytest.fixture
def mru(registry: None, tmp_path: Path) -> Path:
    path = tmp_path / "mru.py"
    path.write_text(MRU, encoding="utf-8")
    return path


def test_a_file_adds_a_policy(mru: Path) -> None:
    assert simulator.load_policies(mru) == ("mru",)
    assert POLICIES["mru"] == "evicts the most recent last use"
    masks = np.zeros((6, 3), dtype=bool)
    masks[np.arange(6), [0, 1, 2, 0, 1, 2]] = True
    assert simulator.simulate(masks, 2, "mru").tolist() == [0, 0, 0, 1, 0, 1]
    assert simulator.simulate(masks, 2, "lru").tolist() == [0, 0, 0, 0, 0, 0]


def test_it_can_be_loaded_again(mru: Path) -> None:
    simulator.load_policies(mru)
    assert simulator.load_policies(mru) == ("mru",)


def test_it_simulates_traces(mru: Path) -> None:
    simulator.load_policies(mru)
    trace = Trace.empty({"input": 20}, 2, [6, 6])
    for window in range(2):
        trace.add(0, "input", np.random.default_rng(window).random((6, 20)) < 0.3, window)
    for scope in ("window", "carry"):
        found = simulator.simulate_trace(trace, "mru", {"input": 8}, scope)["input"]
        best = simulator.simulate_trace(trace, "min", {"input": 8}, scope)["input"]
        assert 0 < found.hits_by_layer[0] <= best.hits_by_layer[0]


def test_a_kernel_policy_written_as_a_plugin_gives_the_same(registry: None) -> None:
    class Again(policies.LFU):
        name = "lfu-again"

    simulator.register(Again)
    masks = np.random.default_rng(0).random((40, 60)) < 0.3
    plain = simulator.simulate(masks, 20, "lfu-again")
    np.testing.assert_array_equal(plain, simulator.simulate(masks, 20, "lfu"))


PATIENT = """
import simulator
from simulator.policies import Belady


@simulator.register
class Patient(Belady):
    '''Evicts the nearest next use, which is the worst there is.'''

    name = "patient"

    def worth(self, unit):
        return self.next_use[unit], -unit
"""


def test_one_that_knows_the_future_is_offline_from_then_on(registry: None, tmp_path: Path) -> None:
    assert set(simulator.OFFLINE) == {"belady", "min"}
    path = tmp_path / "patient.py"
    path.write_text(PATIENT, encoding="utf-8")
    simulator.load_policies(path)
    assert set(simulator.OFFLINE) == {"belady", "min", "patient"} == policies.offline_policies()
    assert policies.policy_summary("patient") == POLICIES["patient"]
    assert POLICIES["patient"].startswith("Evicts the nearest next use")
    with pytest.raises(SimulatorError, match="'patient' knows the future"):
        simulator.new_state(9, 3, "patient")
    with pytest.raises(SimulatorError, match="policy for cache-aware selection 'patient'"):
        simulator.cache_aware(np.ones((2, 9), np.float32), 3, 3, 0.5, "patient")


def test_a_line_about_each_policy_that_is_no_code() -> None:
    for name in POLICIES:
        kind = policies.policy_class(name)
        assert kind.description == ""
        assert (kind.__doc__ or "").startswith(policies.policy_summary(name))


def test_names_cannot_be_taken_twice(registry: None) -> None:
    class Other(Policy):
        name = "lru"

    class Nameless(Policy):
        pass

    for wrong in (Other, Nameless):
        with pytest.raises(SimulatorError, match="needs a name of its own"):
            simulator.register(wrong)


def test_a_policy_that_keeps_too_much_is_caught(registry: None) -> None:
    class Greedy(Policy):
        name = "greedy"

        def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
            return cached | used

    simulator.register(Greedy)
    with pytest.raises(SimulatorError, match="'greedy' retained more than the capacity"):
        simulator.simulate(np.ones((2, 5), dtype=bool), 3, "greedy")


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="does not exist"):
        simulator.load_policies(tmp_path / "no.py")
