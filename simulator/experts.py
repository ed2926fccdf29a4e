"""Sizes of the routed experts of a model (SEMANTICS 8 and 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from simulator.errors import SimulatorError, check_fields

GROUP = "expert"
"""The weight group whose units are whole experts."""
ROUTER_BITS = 16
"""Of a weight of a router, which no engine quantises."""


@dataclass(frozen=True, slots=True)
class Experts:
    """`count` experts in each of `layers` decoder layers, of which a token uses `chosen`.

    Each is a gated MLP of `intermediate` neurons. Beside them these layers have shared experts of
    together `shared` neurons and a router of `router` weights, which every token uses. The other
    layers of the model have dense MLPs.
    """

    layers: int
    count: int
    chosen: int
    intermediate: int
    shared: int = 0
    router: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in ("shared", "router") else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise SimulatorError(
                    f"experts: {field.name} is {value!r}; it must be a whole number of at least "
                    f"{least}"
                )
        if self.chosen > self.count:
            raise SimulatorError(
                f"experts: a token cannot use {self.chosen} experts of {self.count}"
            )

    @classmethod
    def load(cls, source: Experts | Mapping[str, Any] | None) -> Experts | None:
        """From a mapping of its fields; None and experts stay what they are."""
        if source is None or isinstance(source, Experts):
            return source
        check_fields("experts", source, [field.name for field in fields(cls)])
        lacking = [n for n in ("layers", "count", "chosen", "intermediate") if n not in source]
        if lacking:
            raise SimulatorError(f"experts lack {', '.join(lacking)}")
        return cls(**source)

    def to_mapping(self) -> dict[str, int]:
        """The fields as a plain mapping."""
        return asdict(self)

    def weights(self, hidden: int) -> int:
        """Weights of all experts of a model of that hidden size."""
        return self.layers * self.count * 3 * hidden * self.intermediate

    def static_weights(self, hidden: int) -> int:
        """Weights of shared experts and routers, of all layers."""
        return self.layers * (3 * hidden * self.shared + self.router)
