"""Random cases for the proofs that the kernels equal the reference.

A case is drawn by numpy from a seed that hypothesis chooses, along with its sizes: a small example
is still a small example, and ten thousand of them take seconds instead of minutes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

MOST_UNITS = 300
MASKS = ("all", "none", "sparse", "half", "dense", "skewed", "repeating", "one a token")
SCORES = ("normal", "rounded", "mostly zero", "all equal", "all zero", "wild", "skewed", "tiny")


def many(examples: int) -> settings:
    """Settings for a property that is checked on that many cases."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@dataclass(frozen=True)
class Case:
    """Masks `[tokens, units]`, a capacity and a start."""

    seed: int
    tokens: int
    units: int
    kind: str
    capacity: int
    hot: bool

    @property
    def masks(self) -> NDArray[np.bool_]:
        return random_masks(np.random.default_rng(self.seed), self.tokens, self.units, self.kind)

    @property
    def start(self) -> list[int] | None:
        order = np.random.default_rng(self.seed + 1).permutation(self.units)
        return order.tolist() if self.hot else None


@dataclass(frozen=True)
class ScoreCase:
    """Scores `[tokens, units]` beside what a cache-aware selection takes."""

    seed: int
    tokens: int
    units: int
    kind: str
    k: int
    capacity: int
    gamma: float
    hot: bool

    @property
    def scores(self) -> NDArray[np.float32]:
        return random_scores(np.random.default_rng(self.seed), self.tokens, self.units, self.kind)

    @property
    def start(self) -> list[int] | None:
        order = np.random.default_rng(self.seed + 1).permutation(self.units)
        return order.tolist() if self.hot else None


def random_masks(rng: np.random.Generator, tokens: int, units: int, kind: str) -> NDArray[np.bool_]:
    shares = {"all": 1.0, "none": 0.0, "sparse": 0.05, "half": 0.5, "dense": 0.9}
    if kind in shares:
        return rng.random((tokens, units)) < shares[kind]
    if kind == "skewed":
        return rng.random((tokens, units)) < rng.random(units) ** 3
    if kind == "repeating":
        few = rng.random((3, units)) < 0.4
        return few[rng.integers(0, 3, tokens)]
    masks = np.zeros((tokens, units), dtype=bool)
    masks[np.arange(tokens), rng.integers(0, units, tokens)] = True
    return masks


def random_scores(
    rng: np.random.Generator, tokens: int, units: int, kind: str
) -> NDArray[np.float32]:
    values = rng.standard_normal((tokens, units))
    if kind == "rounded":
        values = np.round(values * 2)
    elif kind == "mostly zero":
        values = values * (rng.random(values.shape) < 0.2)
    elif kind == "all equal":
        values = np.broadcast_to(values[:, :1], values.shape)
    elif kind == "all zero":
        values = values * 0
    elif kind == "wild":  # the whole range of float32, from one token to the next and within one
        values = values * 10.0 ** rng.uniform(-30, 30, (tokens, 1))
        values = values * 10.0 ** rng.uniform(-6, 6, units)
    elif kind == "skewed":
        values = values * np.exp(2 * rng.standard_normal(units))
    elif kind == "tiny":  # subnormal numbers
        values = values * 1e-42
    return values.astype(np.float32)


def sizes(most: int) -> st.SearchStrategy[int]:
    """Small sizes often, sizes around a word of 64 bits, and all up to `most`."""
    return st.one_of(
        st.integers(1, min(most, 12)),
        st.sampled_from([n for n in (63, 64, 65, 127, 128, 129) if n <= most] or [most]),
        st.integers(1, most),
    )


@st.composite
def cases(draw: st.DrawFn, most_units: int = MOST_UNITS, most_tokens: int = 12) -> Case:
    units = draw(sizes(most_units))
    return Case(
        seed=draw(st.integers(0, 2**32 - 1)),
        tokens=draw(st.integers(0, most_tokens)),
        units=units,
        kind=draw(st.sampled_from(MASKS)),
        capacity=draw(
            st.one_of(st.integers(0, units + 3), st.sampled_from([0, units // 2, units]))
        ),
        hot=draw(st.booleans()),
    )


@st.composite
def score_cases(draw: st.DrawFn, most_units: int = 200, most_tokens: int = 10) -> ScoreCase:
    units = draw(sizes(most_units))
    return ScoreCase(
        seed=draw(st.integers(0, 2**32 - 1)),
        tokens=draw(st.integers(0, most_tokens)),
        units=units,
        kind=draw(st.sampled_from(SCORES)),
        k=draw(st.one_of(st.integers(1, units), st.sampled_from([1, (units + 1) // 2, units]))),
        capacity=draw(st.integers(0, units + 3)),
        gamma=draw(st.sampled_from([1.0, 0.2, 0.5, 0.05, 1e-30, 0.999999])),
        hot=draw(st.booleans()),
    )


def cold(case: Case) -> Case:
    return dataclasses.replace(case, hot=False)
