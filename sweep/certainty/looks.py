"""When a table is looked at, and how much of its level each look may spend (SEMANTICS 13).

A table is wrong where one of its named choices is not within its budget, or where a faster one that
is was ruled out. Level α bounds how often that happens to a table at all:

- Half of α is for choices that seem within and are not. Any candidate could, so each statistic of
  each evaluation has an equal part of it. Devices and budgets that share one share its part, as a
  bound that holds does so for every limit.
- The other half is for choices that are ruled out and should not be. Only ruling out the right
  answer of a cell is an error, so there is a part for each cell, or for each statistic if there
  are fewer of those.
- Each part is spent over the looks, which are counts of windows that are fixed before the first
  one, so that looking often costs nothing in honesty: after n of at most N windows, n/N of it.
  Parts of looks are added up, which holds however looks, windows and candidates hang together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST = 4
"""Windows from which a look claims something."""
GROWTH = 2
"""Windows of a look over those of the one before it."""


@dataclass(frozen=True, slots=True)
class Levels:
    """One-sided levels of one look: how often a bound may miss the truth there."""

    within: float
    """Of an upper bound, by which a candidate is taken to be within a budget."""
    beyond: float
    """Of a lower bound, by which it is ruled out."""


def planned_looks(first: int, most: int, step: int = 1) -> tuple[int, ...]:
    """Counts of windows from `first` to `most`, each twice the one before it.

    All but the last are multiples of `step`, the windows of a shard.
    """
    looks: list[int] = []
    count = step * -int(-max(first, 1) // step)
    while count < most:
        looks.append(count)
        count *= GROWTH
    return (*looks, most)


def levels(alpha: float, statistics: int, cells: int, looks: Sequence[int]) -> tuple[Levels, ...]:
    """Levels of each look at each of so many statistics, for a table of so many cells.

    A look at fewer than `LEAST` windows claims nothing, and spends nothing.
    """
    within = alpha / 2 / max(1, statistics)
    beyond = alpha / 2 / max(1, min(cells, statistics))
    spent = [count / looks[-1] if count >= LEAST else 0.0 for count in looks]
    shares = [after - before for before, after in pairwise([0.0, *spent])]
    return tuple(Levels(within * share, beyond * share) for share in shares)


def whole_level(levels: Sequence[Levels]) -> Levels:
    """That of all looks together, for what has only one."""
    return Levels(sum(one.within for one in levels), sum(one.beyond for one in levels))
