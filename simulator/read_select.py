"""From scores to masks at a price of reads: units that are missed are worth their read, or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import scores_of, whole
from simulator.errors import SimulatorError, check_number, unknown
from simulator.kernels import read_aware as kernels
from simulator.kernels import select as select_kernels
from simulator.packing import unpack, words_for
from simulator.policies import CACHE_AWARE, Cache
from simulator.read_cells import cells_of, law_of
from simulator.read_cost import ReadCost
from simulator.selection import Selected
from simulator.state import CacheState, new_state

_NO_CACHE = -1
_POLICIES = {"lfu": select_kernels.LFU, "lru": select_kernels.LRU}
Bools = NDArray[np.bool_]


def read_aware(
    scores: NDArray[np.float32],
    unit_bytes: float,
    cost: ReadCost,
    lam: float,
    resident: Bools | None = None,
    *,
    align_bytes: int = 1,
) -> Bools:
    """Masks bool `[tokens, units]` that are worth the most, each token by itself (SEMANTICS 9).

    Of all masks the one with the largest sum of `abs(score)` over the token's largest, of what is
    chosen, less `lam` times the seconds of the reads that it causes; `lam` is what a second is
    worth. Units that are `resident` (`[tokens, units]`, or `[units]` for all tokens) cost nothing;
    what is read is as in `reads`, with gaps read where that is cheaper. So a unit that a read
    passes over anyway is chosen, and a unit without a score never. Exact: O(units) for the affine
    law, O(units * longest read of the table) for a table. Of masks worth the same to the last digit
    one that reads fewer units is taken. Raises SimulatorError for a negative `lam`, scores that are
    not finite, and a shape of `resident` that does not fit.
    """
    values = scores_of(scores)
    tokens, units = values.shape
    rows = np.zeros((1, units), np.uint8) if resident is None else _residents(resident, values)
    state = new_state(units, 0, "none")
    chosen = _scan(values, _Prices(unit_bytes, cost, lam, align_bytes), state, _NO_CACHE, rows)
    assert len(chosen.packed) == tokens
    return unpack(chosen.packed, units)


def read_aware_scan(
    scores: NDArray[np.float32],
    capacity: int,
    unit_bytes: float,
    cost: ReadCost,
    lam: float,
    policy: str = "lfu",
    start: ArrayLike | None = None,
    state: CacheState | None = None,
    *,
    align_bytes: int = 1,
) -> tuple[Bools, NDArray[np.int64]]:
    """`read_aware` with a cache between the tokens: masks bool `[tokens, units]`, hits `[tokens]`.

    Resident is what the cache holds before the token; afterwards it admits and evicts as in
    `cache_aware`. A `state` is carried on from call to call and takes the place of `start`. Raises
    SimulatorError as `read_aware` does, and for policies other than lfu and lru.
    """
    values = scores_of(scores)
    units = values.shape[-1]
    if policy not in CACHE_AWARE:
        raise unknown("policy for read-aware selection", policy, CACHE_AWARE)
    capacity = min(whole("capacity", capacity, 0), units)
    state = state or new_state(units, capacity, policy, start)
    state.expect(policy, units, capacity)
    chosen = select_read_aware(values, unit_bytes, cost, lam, state, align_bytes=align_bytes)
    assert chosen.hits is not None
    return unpack(chosen.packed, units), chosen.hits


def select_read_aware(
    values: NDArray[np.float32],
    unit_bytes: float,
    cost: ReadCost,
    lam: float,
    state: CacheState,
    *,
    align_bytes: int = 1,
) -> Selected:
    """`read_aware_scan` of `values [tokens, units]`, as bits and hits; `state` is updated in place.

    After an error `state` is partly updated: drop it.
    """
    values = scores_of(values)
    if state.policy not in CACHE_AWARE:
        raise unknown("policy for read-aware selection", state.policy, CACHE_AWARE)
    state.expect(state.policy, values.shape[-1], state.capacity)
    none = np.zeros((1, 1), np.uint8)
    prices = _Prices(unit_bytes, cost, lam, align_bytes)
    return _scan(values, prices, state, _POLICIES[state.policy], none)


def select_read_aware_plainly(
    values: NDArray[np.float32],
    unit_bytes: float,
    cost: ReadCost,
    lam: float,
    cache: Cache,
    *,
    align_bytes: int = 1,
) -> Selected:
    """`select_read_aware` with a cache of any online policy, one token after the other."""
    values = scores_of(values)
    units = values.shape[-1]
    hits = np.zeros(len(values), np.int64)
    packed = np.empty((len(values), words_for(units)), np.uint64)
    prices, state = _Prices(unit_bytes, cost, lam, align_bytes), new_state(units, 0, "none")
    for token in range(len(values)):
        resident = np.zeros((1, units), np.uint8)
        resident[0, list(cache.cached)] = 1
        packed[token] = _scan(values[token : token + 1], prices, state, _NO_CACHE, resident).packed
        used = np.flatnonzero(unpack(packed[token], units)).tolist()
        hits[token] = cache.step(used)
    return Selected(packed, hits)


def lam_for_density(
    scores: Sequence[NDArray[np.float32]],
    density: float,
    unit_bytes: float,
    cost: ReadCost,
    *,
    capacity: int = 0,
    policy: str = "lfu",
    align_bytes: int = 1,
    steps: int = 30,
) -> float:
    """The price of a second at which masks use a share `density` of the units, by bisection.

    `scores` are sessions `[tokens, units]`, each from a cold cache of `capacity` slots. The share
    falls as the price rises, though with a cache not in every step: the price returned is that of
    the share nearest to `density` among those tried, 0 if even free reads use no more.
    """
    sessions = [scores_of(session) for session in scores]
    if not sessions or not 0 < density <= 1:
        raise SimulatorError(f"density is {density!r}; it must be in (0, 1], of some sessions")

    def share(lam: float) -> float:
        used = [
            read_aware_scan(
                session, capacity, unit_bytes, cost, lam, policy, align_bytes=align_bytes
            )[0]
            for session in sessions
        ]
        return sum(int(masks.sum()) for masks in used) / sum(masks.size for masks in used)

    if share(0.0) <= density:
        return 0.0
    high = 1 / cost(unit_bytes)  # a unit's read costs as much as the best unit is worth
    while share(high) > density and high < _MOST_LAM:
        high *= 4
    low, tried = 0.0, dict[float, float]()
    for _ in range(whole("steps", steps, 1)):
        lam = (low + high) / 2
        tried[lam] = share(lam)
        low, high = (lam, high) if tried[lam] > density else (low, lam)
    return min(tried, key=lambda lam: (abs(tried[lam] - density), lam))


_MOST_LAM = 1e18


@dataclass(frozen=True, slots=True)
class _Prices:
    unit_bytes: float
    cost: ReadCost
    lam: float
    align_bytes: int


def _residents(resident: Bools, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    rows = np.asarray(resident)
    if rows.dtype != np.bool_ or rows.shape not in (values.shape, values.shape[1:]):
        raise SimulatorError(
            f"resident is {rows.dtype} of shape {rows.shape}; it must be bool of shape "
            f"{values.shape} or {values.shape[1:]}"
        )
    return np.ascontiguousarray(np.atleast_2d(rows)).view(np.uint8)


def _scan(
    values: NDArray[np.float32],
    prices: _Prices,
    state: CacheState,
    policy: int,
    residents: NDArray[np.uint8],
) -> Selected:
    tokens, units = values.shape
    lam, cost = prices.lam, prices.cost
    check_number("read-aware selection", "lam", lam, 0, strict=False)
    cells = cells_of(units, prices.unit_bytes, prices.align_bytes)
    law = law_of(cost, cells.cell_bytes, cells.all_cells)
    first, further = cells.high[1:] - cells.low[:-1], np.diff(cells.high)
    opening = lam * (law.latency + law.slope * first.astype(np.float64))
    packed = np.empty((tokens, words_for(units)), np.uint64)
    hits, counters = np.zeros(tokens, np.int64), np.array([state.seen, state.tokens], np.int64)
    bad = kernels.read_aware_scan(
        values,
        cells.low,
        cells.high,
        opening,
        lam * (law.slope * further.astype(np.float64)),
        lam * law.near,
        lam * law.latency,
        lam * law.slope,
        policy,
        residents,
        state.capacity,
        state.cached,
        state.uses,
        state.order,
        counters,
        state.memory,
        packed,
        hits,
    )
    if bad >= 0:
        unit = int(np.flatnonzero(~np.isfinite(values[bad]))[0])
        raise SimulatorError(
            f"the score of unit {unit} of token {bad} is {values[bad, unit]}; scores must be finite"
        )
    state.seen, state.tokens = int(counters[0]), int(counters[1])
    return Selected(packed, hits)
