"""Reads and read-aware selection in loops, and by trying everything: what kernels must equal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from hypothesis import strategies as st

from simulator.read_cost import ReadCost
from tests.simulator.cases import MASKS, SCORES, random_masks, random_scores, sizes

Read = tuple[int, int]  # first unit, unit after the last
UNIT_BYTES = (1, 40, 300.5, 594, 1600, 4096, 18546, 250_000)
ALIGNMENTS = (1, 1, 1, 100, 512, 4096)


@dataclass(frozen=True, slots=True)
class File:
    """Units of `unit_bytes` that are read in aligned blocks (alignment 1: in units)."""

    unit_bytes: float
    align_bytes: int

    @property
    def cell(self) -> float:
        return self.unit_bytes if self.align_bytes == 1 else self.align_bytes

    def low(self, unit: int) -> int:
        return unit if self.align_bytes == 1 else int(unit * self.unit_bytes // self.align_bytes)

    def high(self, unit: int) -> int:
        return unit if self.align_bytes == 1 else -int(-unit * self.unit_bytes // self.align_bytes)

    def cells(self, first: int, after: int) -> int:
        return self.high(after) - self.low(first)


def runs_of(row: Sequence[bool]) -> list[Read]:
    """Runs of True."""
    padded = [False, *row, False]
    edges = [i for i in range(len(padded) - 1) if padded[i] != padded[i + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def plan_plainly(row: Sequence[bool], file: File, cost: ReadCost) -> list[Read]:
    """The reads of one token's missed units, as docs/semantics.md says."""
    runs = runs_of(row)
    return _by_gaps(runs, file, cost) if cost.affine else _by_table(runs, file, cost)


def _by_gaps(runs: list[Read], file: File, cost: ReadCost) -> list[Read]:
    plan: list[Read] = []
    for first, after in runs:
        gap = (file.low(first) - file.high(plan[-1][1])) * file.cell if plan else math.inf
        if gap < cost.latency_us * cost.gbps * 1e3:
            plan[-1] = (plan[-1][0], after)
        else:
            plan.append((first, after))
    return plan


def _by_table(runs: list[Read], file: File, cost: ReadCost) -> list[Read]:
    longest = math.ceil(cost.affine_from / file.cell)
    slope = file.cell / (cost.gbps * 1e9)
    best, plans = [0.0], [list[Read]()]
    for j, (_, after) in enumerate(runs):
        choices: list[tuple[float, int]] = []
        far: list[tuple[float, int]] = []
        for i in range(j, -1, -1):
            cells = file.cells(runs[i][0], after)
            if cells <= longest:
                choices.append((best[i] + cost(cells * file.cell), i))
            else:
                far.append((best[i] - slope * file.low(runs[i][0]), i))
        if far:
            key, i = min(far, key=lambda pair: pair[0])
            choices.append((key + (cost.latency_us * 1e-6 + slope * file.high(after)), i))
        least, i = min(choices, key=lambda pair: pair[0])
        best.append(least)
        plans.append([*plans[i], (runs[i][0], after)])
    return plans[-1]


def seconds_of(plan: Sequence[Read], file: File, cost: ReadCost) -> float:
    return math.fsum(cost(file.cells(*read) * file.cell) for read in plan)


def every_plan(row: Sequence[bool]) -> Iterator[list[Read]]:
    """All ways to bridge some gaps between the runs of a token, and not others."""
    runs = runs_of(row)
    for bridged in product((False, True), repeat=max(0, len(runs) - 1)):
        plan = runs[:1]
        for (first, after), joined in zip(runs[1:], bridged, strict=True):
            if joined:
                plan[-1] = (plan[-1][0], after)
            else:
                plan.append((first, after))
        yield plan


@dataclass(frozen=True)
class ReadCase:
    """Masks or scores `[tokens, units]`, where the units lie, and what a read costs."""

    seed: int
    tokens: int
    units: int
    masks_of: str
    scores_of: str
    unit_bytes: float
    align_bytes: int
    table: bool
    lam: float
    capacity: int
    hot: bool

    @property
    def masks(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return random_masks(rng, self.tokens, self.units, self.masks_of)

    @property
    def scores(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return random_scores(rng, self.tokens, self.units, self.scores_of)

    @property
    def resident(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed + 2)
        return rng.random((self.tokens, self.units)) < rng.random()

    @property
    def start(self) -> list[int] | None:
        order = np.random.default_rng(self.seed + 1).permutation(self.units)
        return order.tolist() if self.hot else None

    @property
    def file(self) -> File:
        return File(self.unit_bytes, self.align_bytes)

    @property
    def cost(self) -> ReadCost:
        return random_cost(np.random.default_rng(self.seed + 3), self.unit_bytes, self.table)


def random_cost(rng: np.random.Generator, unit_bytes: float, table: bool) -> ReadCost:
    """Laws under which gaps of a few units matter; tables with dips, and with rising tails."""
    gbps = float(rng.choice([0.5, 1.0, 2.95]))
    if not table:
        units = float(rng.choice([0, 0, 0.5, 1, 3, 10.2, 60, 1e6]))
        return ReadCost(latency_us=units * unit_bytes / gbps * 1e-3, gbps=gbps)
    rows = int(rng.integers(2, 7))
    begin, times = unit_bytes * rng.uniform(0.3, 3), np.cumsum(rng.uniform(0.05, 2, rows))
    table_sizes = begin * np.cumprod(rng.uniform(1.2, 4, rows))
    return ReadCost.table(zip(table_sizes, table_sizes / times, strict=True))


@st.composite
def read_cases(draw: st.DrawFn, most_units: int = 150, most_tokens: int = 5) -> ReadCase:
    units = draw(sizes(most_units))
    return ReadCase(
        seed=draw(st.integers(0, 2**32 - 1)),
        tokens=draw(st.integers(0, most_tokens)),
        units=units,
        masks_of=draw(st.sampled_from(MASKS)),
        scores_of=draw(st.sampled_from(SCORES)),
        unit_bytes=draw(st.sampled_from(UNIT_BYTES)),
        align_bytes=draw(st.sampled_from(ALIGNMENTS)),
        table=draw(st.booleans()),
        lam=draw(st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 100.0])),
        capacity=draw(st.integers(0, units + 3)),
        hot=draw(st.booleans()),
    )
