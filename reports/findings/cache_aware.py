"""Does cache-aware selection read less Flash, and is it faster, at equal loss of perplexity?

Each cache-aware point is set against the plain points of the same method, device setting and cache
policy. Their frontiers of (ΔPPL, Flash bytes per token) and of (ΔPPL, tokens per second) are read
at the ΔPPL of the cache-aware point, between its two neighbours. A point outside the range of the
first is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from reports.findings.frontier import interpolate, pareto
from reports.findings.points import Point, Setting


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cache-aware point against the plain frontiers; what lies outside of one is None."""

    point: Point
    plain_bytes: float | None
    plain_speed: float | None

    @property
    def ratio(self) -> float | None:
        """Flash bytes per token over the plain method's; None where that is unknown or zero."""
        if not self.plain_bytes:
            return None
        return self.point.flash_bytes_per_token / self.plain_bytes

    @property
    def speedup(self) -> float | None:
        """Tokens per second over the plain method's; None where that is unknown."""
        return self.point.tokens_per_s / self.plain_speed if self.plain_speed else None


@dataclass(frozen=True, slots=True)
class Finding:
    """Comparisons of one method in one setting, policy and γ; ratios are of Flash bytes."""

    setting: Setting
    series: str
    plain: str
    policy: str
    gamma: float
    compared: int
    outside: int
    fewer: int
    median_ratio: float | None
    low_ratio: float | None
    high_ratio: float | None


Frontier = tuple[list[float], list[float]]
"""Costs, rising strictly, and what the points that none improves on have at them."""


def plain_frontier(plain: Sequence[Point]) -> Frontier:
    """ΔPPL and Flash bytes per token."""
    indices = pareto([p.delta_ppl for p in plain], [-p.flash_bytes_per_token for p in plain])
    return [plain[i].delta_ppl for i in indices], [plain[i].flash_bytes_per_token for i in indices]


def _speeds(plain: Sequence[Point]) -> Frontier:
    """ΔPPL and tokens per second."""
    indices = pareto([p.delta_ppl for p in plain], [p.tokens_per_s for p in plain])
    return [plain[i].delta_ppl for i in indices], [plain[i].tokens_per_s for i in indices]


def compare(points: Iterable[Point]) -> list[Comparison]:
    """Every measured cache-aware point against its plain counterparts, in the given order."""
    usable = [p for p in points if p.measured and math.isfinite(p.flash_bytes_per_token)]
    plain: dict[tuple[Setting, str, str], list[Point]] = {}
    for p in usable:
        if p.series == p.plain:
            plain.setdefault((p.setting, p.plain, p.policy), []).append(p)
    lines = {key: (plain_frontier(members), _speeds(members)) for key, members in plain.items()}
    nothing: tuple[Frontier, Frontier] = ([], []), ([], [])
    compared: list[Comparison] = []
    for p in usable:
        if p.cache_aware and p.gamma < 1:
            both = lines.get((p.setting, p.plain, p.policy), nothing)
            compared.append(Comparison(p, *(interpolate(*line, p.delta_ppl) for line in both)))
    return compared


def findings(comparisons: Iterable[Comparison]) -> list[Finding]:
    """Comparisons gathered by setting, method, policy and γ, in order of first appearance."""
    groups: dict[tuple[Setting, str, str, float], list[Comparison]] = {}
    for c in comparisons:
        key = (c.point.setting, c.point.series, c.point.policy, c.point.gamma)
        groups.setdefault(key, []).append(c)
    return [_finding(members) for members in groups.values()]


def _finding(members: Sequence[Comparison]) -> Finding:
    first = members[0].point
    ratios = _ratios(members)
    return Finding(
        setting=first.setting,
        series=first.series,
        plain=first.plain,
        policy=first.policy,
        gamma=first.gamma,
        compared=len(ratios),
        outside=sum(c.plain_bytes is None for c in members),
        fewer=sum(ratio < 1 for ratio in ratios),
        median_ratio=median(ratios) if ratios else None,
        low_ratio=min(ratios, default=None),
        high_ratio=max(ratios, default=None),
    )


def _ratios(comparisons: Iterable[Comparison]) -> list[float]:
    return [c.ratio for c in comparisons if c.ratio is not None]


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """What was found, one sentence a method: also when it is not what the paper reports."""
    names = dict.fromkeys((c.point.series, c.point.plain) for c in comparisons)
    return [_sentence(s, p, [c for c in comparisons if c.point.series == s]) for s, p in names]


def _sentence(series: str, plain: str, comparisons: Sequence[Comparison]) -> str:
    ratios = _ratios(comparisons)
    outside = sum(c.plain_bytes is None for c in comparisons)
    if not ratios and outside < len(comparisons):
        return f"{plain} reads no Flash where {series} could be set against it: nothing to save."
    if not ratios:
        return (
            f"{series} could not be set against {plain}: none of its {_count(len(comparisons))} "
            f"lies within the ΔPPL range that {plain} covers under the same device and policy."
        )
    fewer, middle = sum(r < 1 for r in ratios), median(ratios)
    left_out = f" {_count(outside)} outside the range of {plain} left out." if outside else ""
    return (
        f"At equal ΔPPL, {series} reads {_against(middle, plain)} "
        f"(median of {_count(len(ratios))}, from {_change(min(ratios))} to {_change(max(ratios))};"
        f" fewer at {fewer} of {len(ratios)}){_faster(comparisons)}. "
        f"{_verdict(fewer, len(ratios), middle)}{left_out}"
    )


def _faster(comparisons: Iterable[Comparison]) -> str:
    speedups = [c.speedup for c in comparisons if c.ratio is not None and c.speedup is not None]
    if not speedups:
        return ""
    return f" and gives {_change(median(speedups))} tok/s (median)"


def _against(ratio: float, plain: str) -> str:
    """`5.7 % fewer Flash bytes per token than dip`, or as many as it."""
    words = "than" if _differs(ratio) else "as"
    return f"{_change(ratio)} Flash bytes per token {words} {plain}"


def _count(n: int) -> str:
    return "1 point" if n == 1 else f"{n} points"


def _differs(ratio: float) -> bool:
    """Whether anything is left of the difference once it is written."""
    return f"{abs(1 - ratio):.1%}" != "0.0%"


def _change(ratio: float) -> str:
    if not _differs(ratio):
        return "as many"
    return f"{abs(1 - ratio):.1%} {'fewer' if ratio < 1 else 'more'}".replace("%", " %")


def _verdict(fewer: int, compared: int, middle: float) -> str:
    if fewer == compared:
        return (
            "The paper reports the same in tok/s (Figure 11): DIP-CA above DIP with every policy."
        )
    if middle < 1:
        return "In the paper DIP-CA wins throughout (Figure 11); here it holds at most points."
    return "This is not what the paper reports (Figure 11)."
