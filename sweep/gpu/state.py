"""Caches of several sequences at once, as tensors where the scores are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from simulator.state import CacheState, new_state

_CACHED, _USE = 1, 2


@dataclass(slots=True)
class Caches:
    """One layer's caches of one group, one for each sequence; a scan updates them in place.

    With LFU, `states` int32 `[sequences, units]` are twice the uses of a unit, and 1 if it is
    cached. With LRU, `states` are the recency lists, of which the first `seen` int32 `[sequences]`
    units have been used before. All sequences have had as many `tokens`.
    """

    policy: str
    units: int
    capacity: int
    states: Tensor
    seen: Tensor
    tokens: int = 0

    @property
    def sequences(self) -> int:
        return self.states.shape[0]

    def on_host(self) -> list[CacheState]:
        """The same as states of the simulator, one for each sequence."""
        return [self._one(i) for i in range(self.sequences)]

    def _one(self, sequence: int) -> CacheState:
        state = new_state(self.units, self.capacity, self.policy)
        row = self.states[sequence].cpu().numpy()
        if self.policy == "lfu":
            state.uses[: self.units] = row // _USE
            state.cached[: self.units] = row & _CACHED
        else:
            state.order[:] = row
            state.seen = int(self.seen[sequence])
            state.cached[row[: min(self.capacity, state.seen)]] = 1
        state.tokens = self.tokens
        return state


def new_caches(
    sequences: int,
    units: int,
    capacity: int,
    policy: str = "lfu",
    start: ArrayLike | None = None,
    device: str | torch.device = "cpu",
) -> Caches:
    """Caches before the first token, all alike: empty, or full of the first units of `start`.

    Raises SimulatorError as `simulator.new_state` does.
    """
    state = new_state(units, capacity, policy, start)
    row = state.order if policy == "lru" else state.cached[:units]
    rows = torch.from_numpy(np.tile(row.astype(np.int32), (sequences, 1)))
    seen = torch.full((sequences,), state.seen, dtype=torch.int32)
    return Caches(policy, units, state.capacity, rows.to(device), seen.to(device))
