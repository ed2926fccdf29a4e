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


def choose_plainly(
    row: Sequence[float], resident: Sequence[bool], file: File, cost: ReadCost, lam: float
) -> list[bool]:
    """The best mask of one token: what is resident or in a span, and has a score."""
    top = max(abs(score) for score in row)
    worth = [abs(score) / top if top else 0.0 for score in row]
    gains = [0.0 if held else value for value, held in zip(worth, resident, strict=True)]
    spans = (_affine_spans if cost.affine else _table_spans)(gains, file, cost, lam)
    inside = [any(first <= i < after for first, after in spans) for i in range(len(row))]
    return [
        value > 0 and (held or read)
        for value, held, read in zip(worth, resident, inside, strict=True)
    ]


def _affine_spans(gains: list[float], file: File, cost: ReadCost, lam: float) -> list[Read]:
    """Two states a unit: the best spans so far whose last is open, or closed."""
    latency, slope = cost.latency_us * 1e-6, file.cell / (cost.gbps * 1e9)
    out, within = (0.0, list[Read]()), (-math.inf, list[Read]())
    for i, gain in enumerate(gains):
        opening = lam * (latency + slope * file.cells(i, i + 1))
        going_on = within[0] - lam * (slope * (file.high(i + 1) - file.high(i)))
        beginning = out[0] - opening
        closed = max(out, within, key=lambda state: state[0])
        if going_on > beginning:
            *before, (first, _) = within[1]
            within = (going_on + gain, [*before, (first, i + 1)])
        else:
            within = (beginning + gain, [*out[1], (i, i + 1)])
        out = closed
    return max(out, within, key=lambda state: state[0])[1]


def _table_spans(gains: list[float], file: File, cost: ReadCost, lam: float) -> list[Read]:
    """Every span that begins and ends at a gain, each unit a possible last one."""
    longest, slope = math.ceil(cost.affine_from / file.cell), lam * (file.cell / (cost.gbps * 1e9))
    latency, total = lam * (cost.latency_us * 1e-6), 0.0
    out, ending = (0.0, list[Read]()), (-math.inf, list[Read]())
    starts: list[tuple[int, float, list[Read]]] = []  # unit, key, spans before it
    for i, gain in enumerate(gains):
        reached = (-math.inf, list[Read]())
        if gain > 0:
            starts.append((i, out[0] - total, out[1]))
            total += gain
            choices: list[tuple[float, int, list[Read]]] = []
            far: list[tuple[float, int, list[Read]]] = []
            for first, key, before in reversed(starts):
                cells = file.cells(first, i + 1)
                if cells <= longest:
                    choices.append((key - lam * cost(cells * file.cell), first, before))
                else:
                    far.append((key + slope * file.low(first), first, before))
            if far:
                key, first, before = max(far, key=lambda choice: choice[0])
                choices.append((key - (latency + slope * file.high(i + 1)), first, before))
            value, first, before = max(choices, key=lambda choice: choice[0])
            reached = (value + total, [*before, (first, i + 1)])
        out, ending = max(out, ending, key=lambda state: state[0]), reached
    return max(out, ending, key=lambda state: state[0])[1]


def value_of(
    chosen: Sequence[bool],
    row: Sequence[float],
    resident: Sequence[bool],
    file: File,
    cost: ReadCost,
    lam: float,
) -> float:
    """What a mask is worth, with the cheapest of all plans for what it has to read."""
    top = max(abs(score) for score in row) or 1.0
    missed = [is_chosen and not held for is_chosen, held in zip(chosen, resident, strict=True)]
    seconds = min(seconds_of(plan, file, cost) for plan in every_plan(missed))
    gains = [abs(score) / top for score, used in zip(row, chosen, strict=True) if used]
    return math.fsum(gains) - lam * seconds
