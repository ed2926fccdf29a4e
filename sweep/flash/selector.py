"""Read-aware masks at a price that is given, so that their density is what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.read_aware import Chosen, ReadAwareSelector


class PricedSelector(ReadAwareSelector):
    """The masks of `simulator.read_aware_scan` at one price λ for all tokens, layers and groups
    (SEMANTICS 9): what a device can do that knows nothing of the tokens to come."""

    def __init__(self, lam: float, *cache: Any, **options: Any) -> None:
        """`lam` is worth a second of the cost of `sweep.read_prices.cost_of`; the rest is that of a
        `ReadAwareSelector`."""
        super().__init__(*cache, **options)
        self._lam = lam

    def _met(self, layer: int, group: str, scores: NDArray[np.float32], share: float) -> Chosen:
        """Masks and hits at the price, whatever share of the units they use."""
        order = np.arange(scores.shape[-1])  # of the units in Flash
        if self._flash_order is not None:
            order = self._flash_order[group][layer]
        cache = self._residents(layer, group, order)
        if cache is None:
            cache = self._state(layer, group, len(order))
        lying = np.ascontiguousarray(scores[:, order])
        lying_mask, hits = self._at(self._lam, group, lying, cache)
        mask = np.empty_like(lying_mask)
        mask[:, order] = lying_mask
        return mask, hits


def make_priced(payload: Mapping[str, Any], inputs: Mapping[str, Any]) -> PricedSelector:
    """The selector that `selector` of a payload with a price describes."""
    cache = (payload["slots"], payload["policy"], payload["scope"], inputs.get("start"))
    options = {"order": inputs.get("order"), "chunk": payload.get("chunk", 1)}
    return PricedSelector(payload["lam"], *cache, payload["reads"], **options)
