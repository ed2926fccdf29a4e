"""The selector that weighs what a unit is worth against the reads that it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from simulator.packing import pack, unpack
from simulator.phases import spread_of
from simulator.read_select import read_aware, select_read_aware
from simulator.state import CacheState, new_state
from sweep.read_prices import cost_of
from sweep.scans import floats_of, mask_like
from sweep.selectors import CacheAwareSelector, Start

if TYPE_CHECKING:
    from sweep.read_prices import Reads

Chosen = tuple[NDArray[np.bool_], NDArray[np.int64]]
"""Masks [tokens, units] and hits [tokens]."""

FIXED = ("static", "hot-set")
"""Policies under which a cache holds the same units for good."""
NEAR = 0.002
"""Share of the units by which a price may miss the share that is asked for, and be taken."""
MOST_TRIED = 24
"""Prices that are tried for one layer, group and window."""
_FACTOR = 4.0


class ReadAwareSelector(CacheAwareSelector):
    """The masks of `simulator.read_aware_scan`, token after token (SEMANTICS 9).

    The price λ of a second is one for each window, layer and group: the one at which the tokens of
    the window use, in the mean, the share of the units that is asked for, up to `NEAR` of it. So λ
    is known only when the window is over, which a device cannot wait for; it is one number, and a
    device that learns it as it goes comes close. Tokens that use every unit have no price.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        policy: str,
        scope: str,
        start: Start | None,
        reads: Reads,
        *,
        order: Start | None = None,
        chunk: int = 1,
    ) -> None:
        """`order` is that of the units in Flash, where it is not the model's own."""
        super().__init__(slots, 1.0, policy, scope, start, chunk=chunk, traced=True)
        self._reads, self._flash_order = reads, order

    def _choose(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[NDArray[np.int64], Tensor]:
        if share >= 1:
            return super()._choose(layer, group, values, share, prune)
        rows = floats_of(values)
        target = self._target(group, rows)
        mask, hits = self._met(layer, group, np.abs(rows) if prune else rows, share)
        np.multiply(rows if prune else np.float32(1), mask, out=target)
        self._packed.setdefault((group, layer), []).append(pack(mask))
        self._hits.setdefault((group, layer), []).append(hits)
        return mask.sum(axis=-1, dtype=np.int64), mask_like(target, values)

    def _met(self, layer: int, group: str, scores: NDArray[np.float32], share: float) -> Chosen:
        """Masks and hits at the price that meets `share`; the cache goes on from them."""
        order = np.arange(scores.shape[-1])  # of the units in Flash
        if self._flash_order is not None:
            order = self._flash_order[group][layer]
        lying = np.ascontiguousarray(scores[:, order])
        cache = self._residents(layer, group, order)
        if cache is None:
            cache = self._state(layer, group, scores.shape[-1])
        tried: dict[float, tuple[Chosen, CacheState | NDArray[np.bool_]]] = {}

        def share_at(lam: float) -> float:
            after = copied(cache) if isinstance(cache, CacheState) else cache
            tried[lam] = self._at(lam, group, lying, after), after
            return float(tried[lam][0][0].mean())

        first = 1 / cost_of(self._reads["groups"][group])(self._unit_bytes(group))
        (lying_mask, hits), after = tried[price_for(share_at, share, first)]
        if isinstance(after, CacheState):
            self._states[group, layer] = after
        mask = np.empty_like(lying_mask)
        mask[:, order] = lying_mask
        return mask, hits

    def _at(
        self,
        lam: float,
        group: str,
        scores: NDArray[np.float32],
        cache: CacheState | NDArray[np.bool_],
    ) -> Chosen:
        """Masks and hits at a price, under a cache that goes along or one that holds the same units
        for good."""
        cost, options = cost_of(self._reads["groups"][group]), {"align_bytes": self._align_bytes}
        if isinstance(cache, CacheState):
            chosen = select_read_aware(scores, self._unit_bytes(group), cost, lam, cache, **options)
            assert chosen.hits is not None
            return unpack(chosen.packed, scores.shape[-1]), chosen.hits
        mask = read_aware(scores, self._unit_bytes(group), cost, lam, cache, **options)
        return mask, (mask & cache).sum(axis=-1, dtype=np.int64)

    def _residents(
        self, layer: int, group: str, order: NDArray[np.int64]
    ) -> NDArray[np.bool_] | None:
        """Units, as they lie in Flash, that are cached for good; None if what is cached changes."""
        resident = np.zeros(len(order), np.bool_)
        if self.policy == "none":
            return resident
        if self.policy not in FIXED:
            return None
        start = self._order(layer, group)
        assert start is not None  # the policy needs one
        resident[start[: self.slots[group]]] = True
        return resident[order]

    @property
    def _align_bytes(self) -> int:
        return self._reads["align_bytes"]

    def _unit_bytes(self, group: str) -> float:
        return self._reads["groups"][group]["unit_bytes"]

    def spread(self) -> dict[str, dict[str, list[int]]]:
        return {group: spread_of(self._by_layer(self._used, group)) for group in self.units}


def price_for(share_at: Callable[[float], float], share: float, first: float) -> float:
    """The price whose share is nearest to `share` among those tried from `first` on, the lower of
    two that are as near. The share falls as the price rises, though not in every step."""
    tried: dict[float, float] = {}

    def above(lam: float) -> bool:
        tried[lam] = share_at(lam)
        return tried[lam] > share

    def near() -> bool:
        return any(abs(got - share) <= NEAR for got in tried.values())

    if not above(0.0):
        return 0.0
    low, high = 0.0, first
    while len(tried) < MOST_TRIED and not near() and above(high):
        low, high = high, high * _FACTOR
    while len(tried) < MOST_TRIED and not near():
        lam = _between(low, high, first, tried, share)
        low, high = (lam, high) if above(lam) else (low, lam)
    return min(tried, key=lambda lam: (abs(tried[lam] - share), lam))


def _between(
    low: float, high: float, first: float, tried: Mapping[float, float], share: float
) -> float:
    """A price between two: where a line through their shares, over the logarithm of the price,
    meets `share`, but not too near to either; far below `first`, a part of the higher one."""
    if not low:
        return high / _FACTOR if high > first * _FACTOR**-20 else high / 2
    fall = tried[low] - tried[high]
    at = (tried[low] - share) / fall if fall > 0 else 0.5
    return low * math.exp(min(max(at, 0.1), 0.9) * math.log(high / low))


def copied(state: CacheState) -> CacheState:
    """A state of its own with the same content."""
    names = ("cached", "uses", "order")
    return replace(state, **{name: getattr(state, name).copy() for name in names}, memory=_fresh())


def _fresh() -> NDArray[np.float64]:
    """Memory of searches, which changes nothing."""
    return new_state(1, 0, "none").memory
