"""How often a table that is said to be certain is wrong, and how many windows that takes.

    python -m benchmarks certainty

Tables are made up with known losses and run through what `sweep run --until-certain` decides with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import machine, table
from sweep.certainty.bounds import (
    Bounds,
    Ends,
    bounds,
    delta_ends,
    first,
    has_hope,
    known,
    ratio_ends,
)
from sweep.certainty.decide import BoundsOf, Candidate, MayTell, Outcome, outcome
from sweep.certainty.looks import levels, planned_looks
from sweep.results.perplexity import Losses

TABLES, ALPHA, AT_MOST, AT_MOST_UNSPARED = 2000, 0.05, 0.40, 1.0
DENSE_SPEED = 0.9
CANDIDATES, WINDOWS, FIRST, TOKENS = 40, 64, 4, 511
RELATIVE, ABSOLUTE = (0.01, 0.02, 0.05, 0.10), (0.2, 0.5)
NESTED = (0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12)
LEVEL, LEVEL_SPREAD = 3.0, 0.3
"""Loss of the dense model, mean over the text and spread of its windows: a perplexity of 20."""
RELATIVE_NOISE, FLOOR_NOISE, SHARED = 0.35, 0.009, 0.7
"""Spread of a window's difference, as a share of its mean and beside that, as SmolLM2 has them on
windows of 512 tokens; and how far the windows of two candidates go together."""

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
Budget = tuple[str, float]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t of 3 degrees of freedom: no fourth moment."""
    return rng.standard_t(3, shape) / math.sqrt(3)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Log-normal, of skewness 3.7."""
    bend = math.exp(0.8**2)
    values = np.exp(0.8 * rng.standard_normal(shape)) - math.sqrt(bend)
    return values / math.sqrt(bend * (bend - 1))


@dataclass(frozen=True, slots=True)
class Made:
    """A table with known truth: `means[c]` is the loss of candidate c over the dense one, `speeds`
    are [settings, candidates]."""

    means: Floats
    speeds: Floats
    losses: list[Losses]
    dense: Losses
    budgets: tuple[Budget, ...]

    def truth(self, candidate: int, of: str) -> float:
        """What a budget limits, over a text without end."""
        grown = math.expm1(float(self.means[candidate]))
        return grown if of == "ratio" else math.exp(LEVEL) * grown

    def is_within(self, candidate: int, budget: Budget) -> bool:
        return self.truth(candidate, budget[0]) <= budget[1] * (1 + 1e-12)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of table."""

    name: str
    noises: tuple[Noise, ...]
    budgets: tuple[Budget, ...]
    near: bool = False


USUAL = (*(("ratio", b) for b in RELATIVE), *(("delta", b) for b in ABSOLUTE))
ALL = (normal, heavy, skewed)
KINDS = (
    Kind("normal", (normal,), USUAL),
    Kind("heavy tails", (heavy,), USUAL),
    Kind("skewed", (skewed,), USUAL),
    Kind("near ties", ALL, USUAL, near=True),
    Kind("12 nested budgets", ALL, tuple(("ratio", b) for b in NESTED)),
)


def make(kind: Kind, rng: np.random.Generator) -> Made:
    """A table of two device settings. Losses are from 0.001 to 0.6 nats, and what is faster mostly
    loses more."""
    noise = kind.noises[int(rng.integers(len(kind.noises)))]
    means = np.sort(10 ** rng.uniform(-3, math.log10(0.6), CANDIDATES))
    means = means[np.argsort(np.arange(CANDIDATES) + 4 * rng.standard_normal(CANDIDATES))]
    if kind.near:
        _bring_near(means, kind.budgets, rng)
    speeds = np.linspace(1, 3, CANDIDATES) * np.exp(0.03 * rng.standard_normal((2, CANDIDATES)))
    shape = (CANDIDATES, WINDOWS)
    own = noise(rng, shape) * math.sqrt(1 - SHARED**2) + noise(rng, (WINDOWS,)) * SHARED
    differences = means[:, None] * (1 + RELATIVE_NOISE * own) + FLOOR_NOISE * noise(rng, shape)
    base, predicted = LEVEL + LEVEL_SPREAD * noise(rng, (WINDOWS,)), np.full(WINDOWS, float(TOKENS))
    losses = [Losses((base + one) * TOKENS, predicted) for one in differences]
    return Made(means, speeds, losses, Losses(base * TOKENS, predicted), kind.budgets)


def _bring_near(means: Floats, budgets: tuple[Budget, ...], rng: np.random.Generator) -> None:
    """One candidate of each budget right at its limit, and two within 2 % of it."""
    places = rng.permutation(len(means))[: 3 * len(budgets)].reshape(-1, 3)
    for (of, limit), at in zip(budgets, places, strict=True):
        edge = math.log1p(limit if of == "ratio" else limit / math.exp(LEVEL))
        means[at] = edge * np.array([1, 1 + 0.02 * rng.random(), 1 - 0.02 * rng.random()])


# -- deciding --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a table: whether anything said was wrong, shares of cells that are decided and
    of windows that were used, speed of certain choices over that of the fastest that are within,
    and of cells that hang on a tie how many were decided."""

    wrong: bool
    decided: float
    used: float
    speed: float
    ties: int
    ties_decided: int


def certified(made: Made, spare: bool = True) -> Came:
    """Looks at a table until nothing more is wanted; `spare` as `certify.spare_windows`."""
    looks = planned_looks(FIRST, WINDOWS)
    kinds = {of for of, _ in made.budgets}
    cells = len(made.speeds) * len(made.budgets)
    spent = levels(ALPHA, CANDIDATES * len(kinds), cells, looks)
    seen = [1] * CANDIDATES
    memory: dict[tuple[str, int, int], Bounds] = {}

    def bounds_of(statistic: Hashable) -> Bounds:
        of, candidate = statistic  # type: ignore[misc]
        if candidate < 0:
            return known(0.0)
        key = (of, candidate, seen[candidate])
        if key not in memory:
            estimate = _estimate(made, of, candidate, looks[seen[candidate] - 1])
            ends = _ends(made, of, candidate)
            memory[key] = bounds(estimate, ends, looks, spent, seen[candidate])
        return memory[key]

    def may_tell(statistic: Hashable, limit: float) -> bool:
        of, candidate = statistic  # type: ignore[misc]
        if not spare:
            return not bounds_of(statistic).ended
        ends = _ends(made, of, candidate)
        return has_hope(bounds_of(statistic), ends, limit, spent, looks)

    while True:
        outcomes = list(_outcomes(made, bounds_of, may_tell, spare))
        wanted = {c.statistic[1] for _, _, came in outcomes for c in came.wanted}  # type: ignore[index]
        if not wanted:
            break
        for candidate in wanted:
            seen[candidate] += 1
    used = sum(looks[count - 1] for count in seen) / (CANDIDATES * WINDOWS)
    return _came(made, outcomes, used)


def _estimate(made: Made, of: str, candidate: int, windows: int) -> float:
    loss, dense = (first(one, windows).perplexity for one in (made.losses[candidate], made.dense))
    return loss / dense - 1 if of == "ratio" else loss - dense


def _ends(made: Made, of: str, candidate: int) -> Ends:
    ends = ratio_ends if of == "ratio" else delta_ends
    return ends(made.losses[candidate], made.dense)


Cell = tuple[int, Budget, Outcome]


def _outcomes(made: Made, bounds_of: BoundsOf, may_tell: MayTell, spare: bool) -> Iterator[Cell]:
    for setting, speeds in enumerate(made.speeds):
        order = [int(i) for i in np.argsort(-speeds)]
        for budget in made.budgets:
            members = [Candidate(str(i), float(speeds[i]), (budget[0], i)) for i in order]
            members.append(Candidate("dense", DENSE_SPEED, (budget[0], -1)))
            yield setting, budget, outcome(members, budget[1], bounds_of, may_tell, spare)


def _came(made: Made, outcomes: list[Cell], used: float) -> Came:
    wrong, ties, ties_decided = False, 0, 0
    speeds = list[float]()
    for setting, budget, came in outcomes:
        order = [int(i) for i in np.argsort(-made.speeds[setting])]
        right = next((i for i in order if made.is_within(i, budget)), None)
        name = "dense" if right is None else str(right)
        said = came.choice.name if came.choice else "dense"
        wrong |= came.decided and said != name
        best = DENSE_SPEED if right is None else float(made.speeds[setting, right])
        speeds.append((came.choice.speed if came.choice else DENSE_SPEED) / best)
        wrong |= said != "dense" and not made.is_within(int(said), budget)
        if right is not None and math.isclose(made.truth(right, budget[0]), budget[1]):
            ties, ties_decided = ties + 1, ties_decided + came.decided
    decided = sum(came.decided for _, _, came in outcomes) / len(outcomes)
    return Came(wrong, decided, used, float(np.mean(speeds)), ties, ties_decided)


# -- the part --------------------------------------------------------------------------------


def report(tables: int = TABLES) -> str:
    """Wrong tables, windows and decided cells, a row a kind of table."""
    each, rows, every = tables // len(KINDS), list[list[str]](), list[Came]()
    unspared = list[Came]()
    for seed, kind in enumerate(KINDS):
        rng = np.random.default_rng(seed)
        made = [make(kind, rng) for _ in range(each)]
        came = [certified(one) for one in made]
        rows.append(_row(kind.name, came))
        every += came
        unspared += [certified(one, spare=False) for one in made]
    rows.append(_row("all", every))
    rows.append(_row("all, `spare_windows: false`", unspared, AT_MOST_UNSPARED))
    columns = ["tables", "number", "wrong", "windows used", "cells decided", "speed", "ties open"]
    columns.append("met")
    about = (
        f"{machine()}. Tables of {CANDIDATES} candidates on two device settings with {len(USUAL)} "
        f"budgets, 1 to 10 % and ΔPPL of 0.2 and 0.5, or with 12 that are nested; up to {WINDOWS} "
        f"windows, looks at {', '.join(map(str, planned_looks(FIRST, WINDOWS)))}. A window's "
        f"difference to dense varies by {RELATIVE_NOISE:.0%} of its mean and by {FLOOR_NOISE} "
        f"nats, as SmolLM2's do at 512 tokens. Wrong is a table in which any choice is not within "
        f"its budget, or any decided cell names another than the fastest that is. Asked: at most "
        f"{ALPHA:.0%} of tables, and at most {AT_MOST:.0%} of the windows that all candidates on "
        f"all windows take. Speed is that of the certain choice over the fastest that is within, "
        f"in the mean of the cells. Ties are cells whose right answer lies at the limit itself. "
        f"Without `spare_windows`, any number of windows is allowed."
    )
    return "\n\n".join(["## Certainty", about, table(columns, rows)])


def _row(name: str, came: list[Came], most_used: float = AT_MOST) -> list[str]:
    wrong, used, decided, speed = (
        float(np.mean([getattr(one, field) for one in came]))
        for field in ("wrong", "used", "decided", "speed")
    )
    ties = sum(one.ties for one in came)
    open_ties = f"{1 - sum(one.ties_decided for one in came) / ties:.1%}" if ties else ""
    met = "yes" if wrong <= ALPHA and used <= most_used else "**no**"
    figures = [f"{wrong:.2%}", f"{used:.0%}", f"{decided:.0%}", f"{speed:.3f}", open_ties, met]
    return [name, f"{len(came):,}", *figures]
