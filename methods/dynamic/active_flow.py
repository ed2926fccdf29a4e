"""ActiveFlow: top-k of every linear input, later layers loaded ahead (arXiv 2504.08378)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from methods.attending import SAME
from methods.base import MethodError
from methods.dynamic.teal import TEAL


@dataclass(frozen=True)
class ActiveFlow(TEAL):
    """As teal, by top-k and in attention too; a layer's mask is announced for those that follow.

    The channels that a token uses in layer l are taken for those that the same matrices use in
    layers l + 1 to l + `ahead`, which can so be read while earlier layers compute. How many of them
    are used (precision), and how many of the used ones were announced (recall), is counted for each
    distance and group; masks themselves are each layer's own. In the source thresholds stand in for
    top-k.
    """

    attention: float | str = SAME
    ahead: int = 4
    """layers that a mask is announced for"""

    name: ClassVar[str] = "active-flow"
    selector: ClassVar[str] = "topk"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        ahead = parameters.get("ahead", 4)
        if not isinstance(ahead, int) or isinstance(ahead, bool) or ahead < 1:
            raise MethodError(f"ahead {ahead!r} of active-flow: a whole number above 0 is expected")
        return super().reach(parameters)

    @classmethod
    def groups_with(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        return super().groups_with({"attention": SAME, **parameters})

    def announced_layers(self) -> int:
        return self.ahead
