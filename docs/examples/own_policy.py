"""A cache policy of your own: uses that fade. own_plugins.yaml has a sweep with it."""

from __future__ import annotations

from collections.abc import Sequence

import simulator
from simulator import Policy

FADING = 0.98
"""What is left of a use after one more token."""


@simulator.register
class Fading(Policy):
    """Evicts the fewest uses, where an old use counts for less than a new one."""

    name = "fading"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.now = 0
        self.uses = [(0, 0.0)] * units  # by unit: the token of the last use, and its worth then

    def observe(self, token: int, used: Sequence[int]) -> None:
        self.now = token
        for unit in used:
            self.uses[unit] = token, self._left(unit) + 1

    def worth(self, unit: int) -> tuple[float, int]:
        return self._left(unit), -unit  # no two units are equal: ties keep the lower one

    def _left(self, unit: int) -> float:
        token, worth = self.uses[unit]
        return worth * FADING ** (self.now - token)
