"""How sure a figure or decision is, in words: its interval, and how near the next one is."""

from __future__ import annotations

import math

from reports.findings.decisions import Decision
from reports.findings.points import Point
from reports.numbers import signed

FEW_WINDOWS = 10


def interval(point: Point, places: int = 3) -> str:
    """ΔPPL interval as `[+0.12, +0.20]`; empty for dense and where either end is unknown."""
    low, high = point.delta_ppl_low, point.delta_ppl_high
    if point.dense or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{signed(low, places)}, {signed(high, places)}]"


def sentences(decision: Decision) -> list[str]:
    """What to say of a pruned choice; nothing for dense or none."""
    best = decision.best
    if best is None or best.dense:
        return []
    return [_interval(decision, best), *_windows(best), *_margin(best, decision.runner_up)]


def _interval(decision: Decision, best: Point) -> str:
    high = signed(best.delta_ppl_high)
    if decision.certainty == "within":
        return f"Sure: the 95 % interval ends at {high}, within the budget."
    if decision.certainty == "unknown":
        return "Unknown: ΔPPL has no interval."
    return f"Not sure: the 95 % interval reaches {high}, beyond the budget. {_instead(decision)}"


def _instead(decision: Decision) -> str:
    best, safe = decision.best, decision.conservative
    if best is None or safe is None:
        return "No measured point is surely within."
    if safe.dense:
        return "Only dense is surely within."
    slower = 1 - safe.tokens_per_s / best.tokens_per_s
    return f"The conservative choice is {_percent(slower)} slower."


def _windows(best: Point) -> list[str]:
    """A caveat where the bootstrap had little to draw from."""
    windows = best.setting.windows
    if not 0 < windows < FEW_WINDOWS or not math.isfinite(best.delta_ppl_high):
        return []
    return [f"Rough: {windows:g} window{'' if windows == 1 else 's'} of text."]


def _margin(best: Point, other: Point | None) -> list[str]:
    if other is None or other.dense or not other.tokens_per_s > 0:
        return []
    faster = best.tokens_per_s / other.tokens_per_s - 1
    if faster < 0.005:
        return ["The runner-up is as fast."]
    return [f"{_percent(faster)} faster than the runner-up."]


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
