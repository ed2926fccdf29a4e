"""Bad input is one clear error, never a wrong number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import simulator
from simulator import SimulatorError

MASKS = np.ones((3, 5), dtype=bool)
SCORES = np.ones((3, 5), dtype=np.float32)
PACKED = simulator.pack(MASKS)


def bad(value: float) -> np.ndarray:
    scores = SCORES.copy()
    scores[1, 2] = value
    return scores


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "capacity below zero": (
        lambda: simulator.simulate(MASKS, -1, "lru"),
        "capacity is -1; it must be at least 0",
    ),
    "capacity no whole number": (
        lambda: simulator.simulate(MASKS, 2.5, "lru"),  # type: ignore[arg-type]
        "capacity is 2.5; it must be a whole number",
    ),
    "unknown policy": (
        lambda: simulator.simulate(MASKS, 2, "lrux"),
        "unknown policy 'lrux'; did you mean 'lru'",
    ),
    "masks of numbers": (
        lambda: simulator.simulate(MASKS.astype(int), 2, "lru"),
        "masks are int64 of shape .*must be bool",
    ),
    "masks of one token": (
        lambda: simulator.simulate(MASKS[0], 2, "lru"),
        "must be .tokens, units.",
    ),
    "masks without units": (
        lambda: simulator.simulate(MASKS[:, :0], 2, "lru"),
        "must be bool .tokens, units.",
    ),
    "packed masks of other units": (
        lambda: simulator.simulate(PACKED, 2, "lru", units=65),
        "65 units make uint64 .tokens, 2.",
    ),
    "packed masks with spare bits": (
        lambda: simulator.simulate(PACKED, 2, "lru", units=4),
        "bits past the last of 4 units",
    ),
    "start too short": (
        lambda: simulator.simulate(MASKS, 2, "lru", [0, 1, 2]),
        "start must hold each unit 0 to 4 once",
    ),
    "start with a unit twice": (
        lambda: simulator.lru_curve(MASKS, [0, 1, 2, 3, 3]),
        "start must hold each unit 0 to 4 once",
    ),
    "start of floats": (
        lambda: simulator.cache_aware(SCORES, 2, 2, 0.5, start=np.arange(5.0)),
        "start must hold each unit 0 to 4 once",
    ),
    "static without a start": (
        lambda: simulator.simulate(MASKS, 2, "static"),
        "policy 'static' needs a start",
    ),
    "k above the units": (
        lambda: simulator.cache_aware(SCORES, 6, 2, 0.5),
        "k is 6; it must be between 1 and 5 .the number of units.",
    ),
    "k of zero": (lambda: simulator.top_k(SCORES, 0), "k is 0; it must be between 1 and 5"),
    "gamma above one": (
        lambda: simulator.cache_aware(SCORES, 2, 2, 1.5),
        "gamma is 1.5; it must be above 0 and at most 1",
    ),
    "gamma of zero": (lambda: simulator.cache_aware(SCORES, 2, 2, 0), "gamma is 0"),
    "gamma that is no number": (
        lambda: simulator.cache_aware(SCORES, 2, 2, float("nan")),
        "gamma is nan",
    ),
    "policy that cannot be cache-aware": (
        lambda: simulator.cache_aware(SCORES, 2, 2, 0.5, "belady"),
        "unknown policy for cache-aware selection 'belady' .known: lfu, lru",
    ),
    "negative capacity in a scan": (
        lambda: simulator.cache_aware(SCORES, 2, -3, 0.5),
        "capacity is -3",
    ),
    "scores of double precision": (
        lambda: simulator.top_k(SCORES.astype(np.float64), 2),  # type: ignore[arg-type]
        "scores are float64; they must be float32",
    ),
    "scores of one token": (
        lambda: simulator.top_k(SCORES[0], 2),
        "scores have shape .5,.; they must be .tokens, units.",
    ),
    "a state of another policy": (
        lambda: simulator.cache_aware(SCORES, 2, 2, 0.5, "lru", state=simulator.new_state(5, 2)),
        "the state is of policy, units, capacity",
    ),
    "a state of other units": (
        lambda: simulator.cache_aware(SCORES, 2, 2, 0.5, state=simulator.new_state(6, 2)),
        "the state is of policy, units, capacity .'lfu', 6, 2.",
    ),
    "a state of an offline policy": (
        lambda: simulator.new_state(5, 2, "belady"),
        "policy 'belady' knows the future",
    ),
    "one state for two sequences": (
        lambda: simulator.select(np.stack([SCORES] * 2), 2, state=simulator.new_state(5, 2)),
        "one state for each of 2 sequences",
    ),
    "a target of another shape": (
        lambda: simulator.select(SCORES, 2, target=SCORES[:1].copy()),
        "target is float32 of shape .1, 5.",
    ),
    "a target that cannot be written": (
        lambda: simulator.select(SCORES, 2, target=np.broadcast_to(np.float32(1), (3, 5))),
        "must be a writable contiguous",
    ),
    "no threads": (lambda: simulator.top_k(SCORES, 2, threads=0), "threads is 0"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(case: str) -> None:
    call, message = CASES[case]
    with pytest.raises(SimulatorError, match=message):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "select",
    [
        lambda scores: simulator.top_k(scores, 2),
        lambda scores: simulator.top_k(scores, 2, threads=2),
        lambda scores: simulator.select(scores, 2),
        lambda scores: simulator.cache_aware(scores, 2, 2, 0.2),
        lambda scores: simulator.cache_aware(scores, 2, 2, 1.0, "lru"),
        lambda scores: simulator.cache_aware(scores, 5, 5, 0.2),
    ],
)
def test_scores_must_be_finite(value: float, select: Callable[[np.ndarray], Any]) -> None:
    with pytest.raises(SimulatorError, match=r"unit 2 of token \d is .*; scores must be finite"):
        select(bad(value))


def test_every_error_of_the_package_is_one_kind() -> None:
    assert issubclass(SimulatorError, ValueError)
