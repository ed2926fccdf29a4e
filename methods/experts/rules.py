"""Routing rules: which experts a token uses, from the router's scores and what is in the cache.

Each is a method without masks of neurons: `stock` is the router, the others prefer experts that are
in DRAM. Whatever is chosen is mixed by the router's own weights. A neuron method may run inside the
experts that are used; `density` is then that of each expert.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from methods.base import Method, MethodError
from methods.density import COVERS, kept_units, mlp_density
from methods.registry import create, reachable

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Select
    from methods.mlp import GatedMLP

NONE = "none"
INSIDE = ("glu", "gate", "up", "dip", "teal")
"""Neuron methods that can run inside experts: those that learn nothing and prune MLPs alone."""
GROUP = "expert"
SPREAD_FACTOR = 0.99
"""Of the running mean of the spread of scores, as the three public implementations have it."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Token:
    """What a rule knows of a token in one layer."""

    scores: NDArray[np.float64]
    """The router's, by expert; -inf where the router allows none."""
    spread: float
    """Running mean of the largest less the smallest score of the layer's tokens, this one's too."""
    shares: NDArray[np.float64] | None
    """Weights of the router's k best over their sum, by expert, for rules that ask for them."""
    order: NDArray[np.intp]
    """Experts by falling score, as `ranked` has them."""


@dataclass(frozen=True)
class Rule(Method):
    """Chooses the experts of each token; only for mixtures of experts."""

    experts: int = 0
    """experts that a token uses; 0: as many as the model's router chooses"""
    inside: str = NONE
    """method inside each expert: glu, gate, up, dip or teal, by top-k at the entry's density"""
    prefetch: int = 0
    """experts that a layer's input announces, by the next layer's router, to be read ahead"""

    groups: ClassVar[tuple[str, ...]] = (GROUP,)
    needs_shares: ClassVar[bool] = False

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _whole(cls.name, "experts", parameters.get("experts", 0), 0)
        _whole(cls.name, "prefetch", parameters.get("prefetch", 0), 0)
        inside = parameters.get("inside", NONE)
        if inside == NONE:
            return 1.0, 1.0
        if inside not in INSIDE:
            raise MethodError(
                f"inside {inside!r} of {cls.name}: none or {', '.join(INSIDE)} is expected"
            )
        return reachable(inside)

    @classmethod
    def selector_with(cls, parameters: Mapping[str, Any]) -> str:
        counting = cls.reads_cache(parameters) or bool(parameters.get("prefetch", 0))
        return "cache-aware" if counting else "topk"

    def parameters(self) -> dict[str, Any]:
        """Without `prefetch` where nothing is read ahead."""
        return {k: v for k, v in super().parameters().items() if k != "prefetch" or v}

    @classmethod
    def reads_cache(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether the choice depends on what is cached."""
        return True

    def group_densities(self) -> dict[str, float]:
        return {}

    def inner(self) -> Method | None:
        """The method inside of each expert."""
        return None if self.inside == NONE else create(self.inside, self.density)

    def part(self, hidden: int, intermediate: int) -> float:
        """Share of an expert's weights that a token uses of it, in whole units, for experts of
        these sizes."""
        inner = self.inner()
        if inner is None:
            return 1.0
        units = {"hidden": hidden, "intermediate": intermediate}
        kept = {
            group: kept_units(share, units[COVERS[group][1]]) / units[COVERS[group][1]]
            for group, share in inner.group_densities().items()
        }
        return mlp_density(kept)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        raise MethodError(f"{self.name} routes to experts; an MLP has none")

    def used(self, chosen: int) -> int:
        """Experts that a token uses where the model's router chooses so many."""
        return self.experts or chosen

    def check(self, count: int, chosen: int) -> None:
        """Raise MethodError where the rule does not fit a layer of `count` experts of which the
        router chooses `chosen`."""
        for name in ("experts", "prefetch"):
            if getattr(self, name) > count:
                raise MethodError(
                    f"{name} {getattr(self, name)} of {self.name}: the model has {count}"
                )

    def plain(self) -> Rule:
        """The rule that chooses the same, where the cache plays no part: `stock`."""
        if type(self).reads_cache(self.parameters()):
            return self
        shared = {name: getattr(self, name) for name in ("experts", "inside", "prefetch")}
        return Stock(density=self.density, **shared)

    @abstractmethod
    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        """Which experts the token uses, bool [experts], where `resident` ones are in the cache."""


@dataclass(frozen=True)
class Stock(Rule):
    """The router's own choice, or with `experts` the so many best of it."""

    name: ClassVar[str] = "stock"

    @classmethod
    def reads_cache(cls, parameters: Mapping[str, Any]) -> bool:
        return False

    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        return _flags(token.order[:k], token)


@dataclass(frozen=True)
class CachePrior(Rule):
    """A bias for cached experts, of `lam` times the usual spread of the scores (arXiv 2412.00099).

    z' = z + lam * spread * m, m = 1 for cached experts and the `protected` best by z; the k best by
    z' are used. lam 0 is the router's own choice.
    """

    lam: float = 0.2
    """bias of cached experts, in spreads of the router's scores"""
    protected: int = 2
    """best experts of the router that have the bias too, cached or not (J)"""

    name: ClassVar[str] = "cache-prior"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _number(cls.name, "lam", parameters.get("lam", 0.2), 0, None)
        _whole(cls.name, "protected", parameters.get("protected", 2), 0)
        return super().reach(parameters)

    @classmethod
    def reads_cache(cls, parameters: Mapping[str, Any]) -> bool:
        return parameters.get("lam", 0.2) != 0

    def check(self, count: int, chosen: int) -> None:
        super().check(count, chosen)
        _check_protected(self.name, self.protected, self.used(chosen))

    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        order = token.order
        preferred = resident.copy()
        preferred[order[: self.protected]] = True
        return _best(token.scores + self.lam * token.spread * preferred, token, order, k)


@dataclass(frozen=True)
class MaxRank(Rule):
    """The `protected` best, then cached experts among the `ranks` best, then the rest by score.

    As in arXiv 2412.00099 and in engines (J = 2, M = 12).
    """

    protected: int = 2
    """best experts of the router that are always used (J)"""
    ranks: int = 12
    """experts from the best down that the cache may promote (M)"""

    name: ClassVar[str] = "max-rank"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _whole(cls.name, "protected", parameters.get("protected", 2), 0)
        _whole(cls.name, "ranks", parameters.get("ranks", 12), 1)
        return super().reach(parameters)

    def check(self, count: int, chosen: int) -> None:
        super().check(count, chosen)
        _check_protected(self.name, self.protected, self.used(chosen))
        if self.ranks < self.used(chosen):
            raise MethodError(
                f"ranks {self.ranks} of {self.name}: a token uses {self.used(chosen)} experts, and "
                "no fewer can be promoted"
            )

    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        order = token.order
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        promoted = resident & (place < self.ranks) & np.isfinite(token.scores)
        worth = np.where(place < self.protected, 2, promoted.astype(np.int64))
        return _flags(np.lexsort((place, -worth))[:k], token)


@dataclass(frozen=True)
class DropIfMiss(Rule):
    """Leaves out a missed expert whose weight is below `least_weight` of the mean weight 1 / k.

    As BigMoeOnEdge's `--drop-cold-experts`; weights are over the sum of the router's k best. The
    best of them is always used.
    """

    least_weight: float = 0.75
    """share of the mean weight below which a missed expert is left out (f)"""

    name: ClassVar[str] = "drop-if-miss"
    needs_shares: ClassVar[bool] = True

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _number(cls.name, "least_weight", parameters.get("least_weight", 0.75), 0, 1)
        return super().reach(parameters)

    @classmethod
    def reads_cache(cls, parameters: Mapping[str, Any]) -> bool:
        return parameters.get("least_weight", 0.75) != 0

    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        assert token.shares is not None
        best = token.order[:k]
        kept = resident | (token.shares >= self.least_weight / k)
        kept[best[np.argmax(token.shares[best])]] = True
        return _flags(best[kept[best]], token)


@dataclass(frozen=True)
class ScoreGap(Rule):
    """A bias for cached experts of `factor` times the gap between the best and the k-th score.

    CECAR's bonus with the constant of its ablation in place of its learnt eviction score.
    """

    factor: float = 0.5355
    """share of the gap between the first and the k-th score that cached experts gain"""

    name: ClassVar[str] = "score-gap"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _number(cls.name, "factor", parameters.get("factor", 0.5355), 0, None)
        return super().reach(parameters)

    @classmethod
    def reads_cache(cls, parameters: Mapping[str, Any]) -> bool:
        return parameters.get("factor", 0.5355) != 0

    def choose(self, token: Token, resident: Flags, k: int) -> Flags:
        order = token.order
        gap = token.scores[order[0]] - token.scores[order[k - 1]]
        return _best(token.scores + self.factor * gap * resident, token, order, k)


def ranked(scores: NDArray[np.float64], own: Flags) -> NDArray[np.intp]:
    """Experts of each token by falling score, [tokens, experts]; ties go to the router's `own`
    choice, then to the lower one."""
    return np.lexsort((~own, -scores), axis=-1)


def spreads(scores: NDArray[np.float64], before: float | None) -> NDArray[np.float64]:
    """The running mean of the spread of each token's scores [tokens, experts], after that token;
    `before` is that of earlier tokens, None starts with the first token's own."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    ranges = np.nanmax(finite, axis=1) - np.nanmin(finite, axis=1)
    running, means = before, np.empty(len(ranges))
    for token, spread in enumerate(ranges.tolist()):
        running = spread if running is None else _after(running, spread)
        means[token] = running
    return means


def _after(mean: float, spread: float) -> float:
    return SPREAD_FACTOR * mean + (1 - SPREAD_FACTOR) * spread


def _best(worth: NDArray[np.float64], token: Token, order: NDArray[np.intp], k: int) -> Flags:
    """The k of most worth; ties go to the better score."""
    return _flags(order[np.argsort(-worth[order], kind="stable")[:k]], token)


def _flags(chosen: NDArray[np.intp], token: Token) -> Flags:
    flags = np.zeros(len(token.scores), np.bool_)
    flags[chosen] = True
    return flags


def _check_protected(name: str, protected: int, used: int) -> None:
    if protected > used:
        raise MethodError(
            f"protected {protected} of {name}: a token uses {used} experts, and no more can be "
            "protected"
        )


def _whole(name: str, parameter: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise MethodError(
            f"{parameter} {value!r} of {name}: a whole number from {least} on is expected"
        )


def _number(name: str, parameter: str, value: Any, low: float, high: float | None) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value or (high is not None and value > high):
        bounds = f"from {low:g} on" if high is None else f"from {low:g} to {high:g}"
        raise MethodError(f"{parameter} {value!r} of {name}: a number {bounds} is expected")
