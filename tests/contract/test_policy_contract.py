"""What every cache policy keeps: the rules of `simulator.contract`, and whole traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator import POLICIES, Policy, Trace, contract, policies, register, simulate_trace
from simulator.errors import SimulatorError

UNITS = {"input": 20, "intermediate": 70}
LENGTHS = (9, 1, 14)
LAYERS = 2
SLOTS = ({"input": 0, "intermediate": 0}, {"input": 7, "intermediate": 30}, dict(UNITS))

Masks = dict[tuple[str, int, int], NDArray[np.bool_]]


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_keeps_every_rule(policy: str, rule: contract.Rule) -> None:
    rule(policy)


class Oldest(Policy):
    """Evicts what was admitted first: a policy that keeps the rules."""

    name = "oldest"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.admitted = [-1] * units

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        kept = super().retain(cached, used, capacity)
        for unit in sorted(kept - cached):
            self.admitted[unit] = max(self.admitted) + 1
        return kept

    def worth(self, unit: int) -> tuple[int, int]:
        return self.admitted[unit], -unit


class Quiet(Oldest):
    __doc__ = None


class Greedy(Oldest):
    """Keeps more units than fit."""

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return cached | used


class Foreign(Oldest):
    """Caches units that nobody asked for."""

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return set(range(capacity))


class Forgetful(Oldest):
    """Evicts everything but what it had not."""

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return set(sorted(used - cached)[:capacity])


class Tied(Oldest):
    """Leaves ties to chance."""

    def worth(self, unit: int) -> tuple[int, int]:
        return self.admitted[unit], 0


class Shared(Oldest):
    """Has one memory for all caches."""

    memory: ClassVar[list[int]] = [0] * contract.UNITS

    def observe(self, token: int, used: Sequence[int]) -> None:
        for unit in used:
            self.memory[unit] = token

    def worth(self, unit: int) -> tuple[int, int]:
        return self.memory[unit], -unit


class Prophet(policies.Belady):
    """Knows the future and does not say so."""

    offline = False


class Needless(Oldest):
    """Says that it works without a start."""

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        if start is None:
            raise SimulatorError("it needs a start")
        super().__init__(units, start)


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (Oldest, []),
        (Quiet, [contract.it_says_what_it_evicts]),
        (Greedy, [contract.it_keeps_within_its_slots]),
        (Foreign, [contract.it_keeps_only_what_was_there, contract.a_first_use_is_a_miss]),
        (Forgetful, [contract.it_evicts_nothing_in_use]),
        (Tied, [contract.no_two_units_are_worth_the_same]),
        (Shared, [contract.it_starts_afresh, contract.caches_do_not_meet]),
        (Needless, [contract.it_needs_a_start_or_works_without]),
        (Prophet, [contract.it_is_simulated_as_it_is_written]),
    ],
)
def test_a_policy_that_breaks_a_rule_is_caught(
    kind: type[Policy], rules: list[contract.Rule]
) -> None:
    register(type(kind.__name__, (kind,), {"name": "tried", "__doc__": kind.__doc__}))
    broken = {verdict.rule for verdict in contract.check("tried") if not verdict.passed}
    assert {(rule.__doc__ or "").rstrip(".") for rule in rules} <= broken
    assert rules or not broken


@pytest.fixture(scope="module")
def masks() -> Masks:
    """Some units far more often used than others; some tokens use all, some none."""
    rng = np.random.default_rng(3)
    made = {}
    for group, units in UNITS.items():
        liking = rng.random(units) ** 2
        for layer in range(LAYERS):
            for window, tokens in enumerate(LENGTHS):
                drawn = rng.random((tokens, units)) < liking
                drawn[0] = window == 1
                made[group, layer, window] = drawn
    return made


@pytest.fixture(scope="module")
def trace(masks: Masks) -> Trace:
    made = Trace.empty(UNITS, LAYERS, LENGTHS)
    for (group, layer, window), mask in masks.items():
        made.add(layer, group, mask, window)
    return made


@pytest.fixture(scope="module")
def start() -> dict[str, NDArray[np.int64]]:
    rng = np.random.default_rng(5)
    return {
        group: np.stack([rng.permutation(units) for _ in range(LAYERS)])
        for group, units in UNITS.items()
    }


def expected(
    masks: Masks,
    group: str,
    layer: int,
    policy: str,
    capacity: int,
    scope: str,
    order: Sequence[int] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Used units and hits of each token, by the plain reference."""
    windows = [masks[group, layer, window] for window in range(len(LENGTHS))]
    sessions = [np.concatenate(windows)] if scope == "carry" else windows
    hits = [policies.simulate_plainly(session, capacity, policy, order) for session in sessions]
    return np.concatenate(windows).sum(axis=1), np.concatenate(hits)


@pytest.mark.parametrize("slots", SLOTS, ids=["none", "some", "all"])
@pytest.mark.parametrize("hot", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("scope", ["window", "carry"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_trace_gives_the_counts_of_the_plain_reference(
    policy: str,
    scope: str,
    hot: bool,
    slots: dict[str, int],
    trace: Trace,
    masks: Masks,
    start: dict[str, NDArray[np.int64]],
) -> None:
    if policies.policy_class(policy).needs_start and not hot:
        with pytest.raises(SimulatorError, match="needs a start"):
            simulate_trace(trace, policy, slots, scope)
        return
    counts = simulate_trace(trace, policy, slots, scope, start if hot else None)
    for group in UNITS:
        phases: dict[tuple[int, int], int] = {}
        for layer in range(LAYERS):
            order = start[group][layer].tolist() if hot else None
            used, hits = expected(masks, group, layer, policy, slots[group], scope, order)
            assert counts[group].used_by_layer[layer] == used.sum()
            assert counts[group].hits_by_layer[layer] == hits.sum()
            for pair in zip(used.tolist(), (used - hits).tolist(), strict=True):
                phases[pair] = phases.get(pair, 0) + 1
        got = counts[group].phases
        triples = zip(got.used.tolist(), got.missed.tolist(), got.count.tolist(), strict=True)
        assert {(used, missed): n for used, missed, n in triples} == phases


@pytest.mark.parametrize("policy", POLICIES)
def test_counts_do_not_depend_on_threads(
    policy: str, trace: Trace, start: dict[str, NDArray[np.int64]]
) -> None:
    one = simulate_trace(trace, policy, SLOTS[1], start=start, threads=1)
    three = simulate_trace(trace, policy, SLOTS[1], start=start, threads=3)
    assert all(one[group].phases == three[group].phases for group in UNITS)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_window_does_not_depend_on_the_others(
    policy: str, trace: Trace, masks: Masks, start: dict[str, NDArray[np.int64]]
) -> None:
    """In the scope `window`, the counts of a trace are the sum over its windows alone."""
    together = simulate_trace(trace, policy, SLOTS[1], start=start)
    hits = dict.fromkeys(UNITS, 0)
    for window, tokens in enumerate(LENGTHS):
        alone = Trace.empty(UNITS, LAYERS, [tokens])
        for group in UNITS:
            for layer in range(LAYERS):
                alone.add(layer, group, masks[group, layer, window], 0)
        for group, counts in simulate_trace(alone, policy, SLOTS[1], start=start).items():
            hits[group] += int(counts.hits_by_layer.sum())
    assert {group: counts.phases.hits_total for group, counts in together.items()} == hits


def test_slots_and_starts_must_fit_the_trace(trace: Trace) -> None:
    with pytest.raises(SimulatorError, match="slots lack the group 'intermediate'"):
        simulate_trace(trace, "lru", {"input": 3})
    with pytest.raises(SimulatorError, match="unknown policy 'lfux'"):
        simulate_trace(trace, "lfux", SLOTS[1])
    with pytest.raises(SimulatorError, match="cache scope"):
        simulate_trace(trace, "lru", SLOTS[1], scope="forever")
    wrong = {group: np.zeros((LAYERS, units - 1), np.int64) for group, units in UNITS.items()}
    with pytest.raises(SimulatorError, match="start of group 'input' has shape"):
        simulate_trace(trace, "lru", SLOTS[1], start=wrong)
