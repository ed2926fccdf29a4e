"""Experts announced one layer ahead: what the next layer's router says of this layer's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.experts.rules import GROUP
from simulator.prefetch import PrefetchCounts

if TYPE_CHECKING:
    from methods.experts.view import Event, RoutedLayer

Flags = NDArray[np.bool_]


class Ahead:
    """Counts of announced experts over all tokens; announcing changes no choice and no cache."""

    def __init__(self, most: int) -> None:
        self.most = most
        """Experts that are announced to each layer but the first."""
        self._waiting: Flags | None = None
        self._both = self._announced = self._used = self._wasted = 0
        self._units: dict[int, list[NDArray[np.int64]]] = {}

    def add(self, event: Event, used: Flags, cached: Flags, layers: list[RoutedLayer]) -> None:
        """One layer of a window: what its tokens used and what was cached, bool [tokens, experts];
        then its input announces experts to the next layer."""
        layer = event.view.index
        announced = np.zeros_like(used) if self._waiting is None or not layer else self._waiting
        if layer:
            self._both += int((announced & used).sum())
            self._announced += int(announced.sum())
            self._used += int(used.sum())
        missing = announced & ~cached
        self._wasted += int((missing & ~used).sum())
        counts = (used, missing, used & ~cached & ~announced)
        rows = np.stack([flags.sum(axis=1, dtype=np.int64) for flags in counts])
        self._units.setdefault(layer, []).append(rows)  # [3, tokens]
        following = layers[layer + 1] if layer + 1 < len(layers) else None
        self._waiting = None if following is None else self._best(event, following)

    def _best(self, event: Event, following: RoutedLayer) -> Flags:
        router = following.router
        logits = type(router).forward(router, event.hidden)[0]
        scores = following.family.scores(router, logits)
        best = scores.argsort(dim=-1, descending=True, stable=True)[:, : self.most]
        flags = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, best, True)
        return flags.cpu().numpy()

    def to_json(self) -> dict[str, Any]:
        """`announced` as `sweep.measures.announcements` has it, and `prefetch`."""
        units = np.stack(
            [np.concatenate(parts, axis=1) for _, parts in sorted(self._units.items())]
        )
        used, missing, demanded = units.transpose(1, 0, 2)
        counts = PrefetchCounts.of(used, missing, demanded, self._wasted)
        of_next = [self._both, self._announced, self._used]
        return {"announced": {GROUP: {"1": of_next}}, "prefetch": counts.to_json()}
