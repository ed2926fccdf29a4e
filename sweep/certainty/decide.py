"""What a cell decides, from bounds that hold, and who needs more windows for it (SEMANTICS 13).

Candidates go by their speed. One is *within* if its upper bound is, *beyond* if its lower bound is
above the limit, and else *open*. The choice of a cell is the fastest that is within. It is decided
when all faster ones are beyond, or when all candidates are; else the open ones above the choice
keep it open. Windows go, in each open cell, to the open candidates from the fastest down to the
first whose estimate is within: slower ones do not matter unless that one fails. Where windows are
spared, one that cannot be told by those that are left ends the hope for what is above it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from sweep.certainty.bounds import Bounds

Verdict = Literal["within", "beyond", "open"]
BoundsOf = Callable[[Hashable], Bounds]
"""Of a statistic."""
MayTell = Callable[[Hashable, float], bool]
"""may_tell(statistic, limit): whether windows that are left may tell on which side it is."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point of a cell: a name, its tokens per second, and what its loss is a statistic of."""

    name: str
    speed: float
    statistic: Hashable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cell has come to.

    choice     the fastest candidate that is within; None if none is
    estimated  the fastest whose estimate is within; None if none is
    rivals     open candidates that are faster than the choice: none where the cell is decided
    wanted     those of them that get more windows; none where more would not help or are not there
    """

    choice: Candidate | None
    estimated: Candidate | None
    rivals: tuple[Candidate, ...]
    wanted: tuple[Candidate, ...]

    @property
    def decided(self) -> bool:
        return not self.rivals

    @property
    def ended(self) -> bool:
        """Whether it is decided, or the text has no more to say."""
        return not self.wanted


def verdict(bounds: Bounds, limit: float) -> Verdict:
    """Of one candidate; bounds that are on both sides at once tell nothing."""
    within, beyond = bounds.high <= limit, bounds.low > limit
    if within == beyond:
        return "open"
    return "within" if within else "beyond"


def outcome(
    candidates: Sequence[Candidate],
    limit: float,
    bounds_of: BoundsOf,
    may_tell: MayTell,
    spare: bool = True,
) -> Outcome:
    """Of a cell whose candidates come by falling speed; of equally fast ones the first is taken.

    An open candidate is no rival of one that is as fast and within. Without `spare`, each rival
    that may tell gets windows, whether or not the cell can still be decided.
    """
    choice = estimated = None
    rivals: list[Candidate] = []
    for candidate in candidates:
        bounds = bounds_of(candidate.statistic)
        if estimated is None and bounds.estimate <= limit:
            estimated = candidate
        said = verdict(bounds, limit)
        if said == "within":
            choice = candidate
            break
        if said == "open":
            rivals.append(candidate)
    speed = choice.speed if choice else -1.0
    faster = tuple(c for c in rivals if c.speed > speed)
    return Outcome(choice, estimated, faster, _wanted(faster, limit, bounds_of, may_tell, spare))


def _wanted(
    rivals: Sequence[Candidate],
    limit: float,
    bounds_of: BoundsOf,
    may_tell: MayTell,
    spare: bool,
) -> tuple[Candidate, ...]:
    """The fastest whose estimate is within, and what has to be ruled out above it, if all that can
    be: else it can still become the choice, and nothing above it matters."""
    above: list[Candidate] = []
    all_tell = True
    for candidate in rivals:
        if not may_tell(candidate.statistic, limit):
            all_tell = not spare
        elif bounds_of(candidate.statistic).estimate <= limit:
            return (*above, candidate) if all_tell else (candidate,)
        else:
            above.append(candidate)
    return tuple(above) if all_tell else ()
