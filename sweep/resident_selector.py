"""The selector that takes what is cached for nothing, and reads what is above a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from methods.thresholds import ThresholdSelect, check_finite
from simulator.phases import phase_counts, spread_of
from simulator.policies import Cache
from simulator.selection import select
from simulator.simulation import GroupCounts
from simulator.state import STATEFUL, CacheState, new_state
from sweep.scans import floats_of, mask_like, rows_of
from sweep.selectors import Selector, Start

if TYPE_CHECKING:
    from torch import Tensor


class ResidentSelector(Selector):
    """A token uses every unit that is cached, and reads those whose score is at least the threshold
    of their layer; so how much a token reads depends on what it needs (SEMANTICS 5).

    The cache is asked for the units above the threshold alone, whether they are cached or not: what
    is used only because it is there is no reason to keep it. Until the cache is full, a token asks
    for the best of the others too, so that it uses as many units as the cache can hold. From then
    on hits of what is asked for, and reads, are what any cache would have on the masks of
    `layer-threshold`.
    """

    def __init__(
        self,
        threshold: ThresholdSelect,
        slots: Mapping[str, int],
        policy: str,
        scope: str = "window",
        start: Start | None = None,
    ) -> None:
        super().__init__()
        self.slots, self.policy, self.scope, self.start = slots, policy, scope, start
        self._threshold = threshold
        self._caches: dict[tuple[str, int], _Resident] = {}
        self._hits: dict[tuple[str, int], list[NDArray[np.int64]]] = {}

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        super().begin_window(tokens, dense_tokens)
        if self.scope == "window":
            self._caches.clear()

    def _mask(
        self, layer: int, group: str, scores: Tensor, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        check_finite(scores)
        wanted = rows_of(self._threshold.mask(layer, group, scores, share)).numpy()
        cache = self._cache(layer, group, wanted.shape[-1])
        resident, wanted = cache.before_each(wanted, floats_of(scores))
        self._hits.setdefault((group, layer), []).append(resident.sum(axis=-1, dtype=np.int64))
        used = wanted | resident
        return used.sum(axis=-1, dtype=np.int64), mask_like(used.astype(np.float32), scores)

    def _cache(self, layer: int, group: str, units: int) -> _Resident:
        if (group, layer) not in self._caches:
            order = None if self.start is None else self.start[group][layer]
            self._caches[group, layer] = _Resident(self.policy, units, self.slots[group], order)
        return self._caches[group, layer]

    def drain(self) -> Any:
        reads = super().drain()
        self._hits.clear()
        return reads

    def _hit(self, group: str) -> NDArray[np.int64]:
        return np.stack(self._by_layer(self._hits, group))

    def groups(self) -> dict[str, dict[str, Any]]:
        return {group: self._counts(group).to_json() for group in self.units}

    def _counts(self, group: str) -> GroupCounts:
        used = np.stack(self._by_layer(self._used, group))  # [layers, tokens]
        hits = self._hit(group)
        return GroupCounts(phase_counts(used, used - hits), used.sum(axis=1), hits.sum(axis=1))

    def spread(self) -> dict[str, dict[str, list[int]]]:
        return {group: spread_of(self._by_layer(self._used, group)) for group in self.units}


class _Resident:
    """One layer's cache of one group, of any policy that does not know the future."""

    def __init__(
        self, policy: str, units: int, capacity: int, order: NDArray[np.int64] | None
    ) -> None:
        self.capacity = min(capacity, units)
        self._state: CacheState | None = None
        self._plain: Cache | None = None
        if policy in STATEFUL:
            self._state = new_state(units, capacity, policy, order)
        else:
            self._plain = Cache(policy, units, capacity, None if order is None else order.tolist())

    def before_each(
        self, above: NDArray[np.bool_], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """What is cached before each token, and what the token asks for [tokens, units]."""
        resident, asked = np.zeros(above.shape, dtype=np.bool_), above.copy()
        for token in range(len(above)):
            resident[token, self._content()] = True
            self._fill(resident[token], asked[token], scores[token])
            self._ask(asked[token])
        return resident, asked

    def _fill(
        self, resident: NDArray[np.bool_], asked: NDArray[np.bool_], scores: NDArray[np.float32]
    ) -> None:
        """Ask for the best of what is neither cached nor asked for, while the cache has room."""
        room = self.capacity - int((resident | asked).sum())
        if room > 0 and int(resident.sum()) < self.capacity:
            order = np.argsort(-np.where(resident | asked, np.float32(-1), scores), kind="stable")
            asked[order[:room]] = True

    def _content(self) -> Any:
        if self._state is not None:
            return self._state.content
        assert self._plain is not None
        return sorted(self._plain.cached)

    def _ask(self, wanted: NDArray[np.bool_]) -> None:
        count = int(wanted.sum())
        if self._plain is not None:
            self._plain.step(np.flatnonzero(wanted).tolist())
        elif count:  # top-k of ones and zeros is what is wanted
            select(wanted[None].astype(np.float32), count, gamma=1.0, state=self._state)
