"""Policies of inference engines, plainly; each has a kernel that is proven equal to it.

Like those of `simulator.policies`, they hold to docs/semantics.md 4: the units of a token are asked
for together, and none that the token found is evicted by it. The sources describe caches that are
asked for one unit after the other; what they leave open was decided as each docstring says.
`simulator` imports this module, so that the policies are always known.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulator.policies import FAMILIES, LFU, LRU, Policy, Static, register

Words = NDArray[np.uint64]
Order = NDArray[np.uint32] | None
Hits = NDArray[np.int64]


@register
class Window(LRU):
    """Keeps what the last k tokens used (`window-5`: 5 tokens) and evicts the rest, full or not.

    LLM in a flash (arXiv 2312.11514), whose k is 4 to 5: of each token the neurons that left the
    window are deleted and new ones loaded. Decided here: the cache stays within its capacity, and
    where the units of k tokens do not fit, the oldest go first, as with `lru`; units of a hot start
    count as used by the token before the first.
    """

    name = "window-5"
    tokens: ClassVar[int] = 5

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.last, self.now = [-1] * units, -1

    def observe(self, token: int, used: Sequence[int]) -> None:
        super().observe(token, used)
        self.now = token
        for unit in used:
            self.last[unit] = token

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        recent = {unit for unit in cached if self.now - self.last[unit] < self.tokens}
        return super().retain(recent, used, capacity)

    @classmethod
    def scan(cls, words: Words, units: int, capacity: int, start: Order) -> Hits:
        from simulator.kernels import engines

        order = np.arange(units, dtype=np.uint32) if start is None else start.copy()
        seen, hits = 0 if start is None else units, np.zeros(len(words), np.int64)
        engines.window_scan(words, order, seen, capacity, cls.tokens, hits)
        return hits


@cache
def window(tokens: int) -> type[Window]:
    """The policy `window-<tokens>`."""
    if tokens == Window.tokens:
        return Window
    attributes = {"name": f"window-{tokens}", "tokens": tokens, "__doc__": Window.__doc__}
    return type(f"Window{tokens}", (Window,), {**attributes, "__module__": __name__})


FAMILIES["window"] = window


@register
class LFUAdmit(LFU):
    """Evicts the fewest uses, but only for a unit with more uses: else that is not admitted.

    ActiveFlow's cache (arXiv 2504.08378): counters start with the session and count every use, in
    or out of the cache; a newcomer takes the place of the least counted resident only if its count
    is higher. Decided here: the use at hand counts; of newcomers the most counted come first; at
    equal counts the resident stays, and among newcomers or residents the lower unit.
    """

    name = "lfu-admit"

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        hits = cached & used
        rivals = sorted(
            (cached | used) - hits,
            key=lambda unit: (self.uses[unit], unit in cached, -unit),
            reverse=True,
        )
        return hits | set(rivals[: capacity - len(hits)])

    @classmethod
    def scan(cls, words: Words, units: int, capacity: int, start: Order) -> Hits:
        from simulator.kernels import engines

        hits = np.zeros(len(words), np.int64)
        engines.lfu_admit_scan(words, _first(words, capacity, start), capacity, hits)
        return hits


@register
class LFRU(LFU):
    """Evicts the fewest uses for each token since the last use: frequency over age.

    As in the comparison of expert caches of arXiv 2608.07911: uses since the start of the session,
    in or out of the cache, over the age of the last use. Decided here: age is counted in tokens, 1
    for a unit that the token at hand used, and ties go to the lower unit, as with `lfu`. (A cache
    with a privileged part that is also called LFRU is another one: see `slru`.)
    """

    name = "lfru"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.last, self.now = [-1] * units, -1

    def observe(self, token: int, used: Sequence[int]) -> None:
        super().observe(token, used)
        self.now = token
        for unit in used:
            self.last[unit] = token

    def worth(self, unit: int) -> Any:
        return Fraction(self.uses[unit], self.now + 1 - self.last[unit]), -unit

    @classmethod
    def scan(cls, words: Words, units: int, capacity: int, start: Order) -> Hits:
        from simulator.kernels import engines

        hits = np.zeros(len(words), np.int64)
        engines.lfru_scan(words, _first(words, capacity, start), capacity, hits)
        return hits


@register
class SLRU(Policy):
    """Evicts the least recent of what was not used again; 80 % is for units that were.

    Segmented LRU (Karedla, Love, Wherry 1994). A list of two parts: a unit that is found moves to
    the front of the protected part; what this pushes out of that part goes to the front of the
    other, on probation, where new units come in as well and from whose end units are evicted. The
    share of 80 % is that of expert caches on phones.
    Decided here: units found together keep their order; the protected part grows beyond its share
    while one token finds more than that; new units stand before those pushed out, the lower first,
    and are not admitted where only protected ones could make room; the first units of a hot start
    are protected.
    """

    name = "slru"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.order: list[int] | None = None  # protected units, then those on probation
        self.protected = 0

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        share = capacity * 4 // 5
        if self.order is None:
            self.order = list(self.start or ())[:capacity]
            self.protected = min(share, len(self.order))
        hits = [unit for unit in self.order if unit in used]
        unused = [unit for unit in self.order[: self.protected] if unit not in used]
        probation = [unit for unit in self.order[self.protected :] if unit not in used]
        safe, room = hits + unused, max(share, len(hits))
        order = safe[:room] + sorted(used - cached) + safe[room:] + probation
        self.order, self.protected = order[:capacity], min(share, len(safe))
        return set(self.order)

    @classmethod
    def scan(cls, words: Words, units: int, capacity: int, start: Order) -> Hits:
        from simulator.kernels import engines

        order, hits = np.empty(capacity, np.uint32), np.zeros(len(words), np.int64)
        filled = 0 if start is None else capacity
        order[:filled] = start[:filled] if start is not None else 0
        engines.slru_scan(words, order, filled, capacity * 4 // 5, hits)
        return hits


@register
class HotSet(Static):
    """A fixed set of the units that most tokens of a calibration use, never evicted.

    PowerInfer's hot set (arXiv 2312.12456): the neurons of the highest frequency of activation on a
    calibration text, under a budget of neurons. Decided here: frequency is the share of calibration
    tokens whose mask, by the method, density and selector at hand, has the unit; the budget is that
    of each layer alone, as all caches of a group have as many slots (the paper's solver may give a
    layer more than another). `static` is the same with the largest mean scores.
    """

    name = "hot-set"
    start_by = "use"

    @classmethod
    def scan(cls, words: Words, units: int, capacity: int, start: Order) -> Hits:
        from simulator.packing import pack

        content = pack(_first(words, capacity, start).view(np.bool_))
        return np.bitwise_count(words & content).sum(axis=-1, dtype=np.int64)


def _first(words: Words, capacity: int, start: Order) -> NDArray[np.uint8]:
    """Bytes, padded to whole words, that are 1 for the first `capacity` units of `start`."""
    cached = np.zeros(words.shape[1] * 64, np.uint8)
    if start is not None:
        cached[start[:capacity]] = 1
    return cached
