"""How sure a figure or decision is, in words: its interval, what would settle it, and how many it
was chosen among."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from reports.findings.budgets import JOULE, Budget
from reports.findings.costs import cost, cost_name, ends, upper_end, written
from reports.findings.decisions import Decision
from reports.findings.points import Point

FEW_WINDOWS = 10
MANY_WINDOWS = 10_000
"""More windows than anyone evaluates: such a choice is too near its budget."""
_FEW_CANDIDATES = 10


def sentences(decision: Decision) -> list[str]:
    """What to say of a pruned choice; nothing for dense or none."""
    best = decision.best
    if best is None or best.dense:
        return []
    rough = _windows(best, decision.budget)
    return [_interval(decision, best), *rough, *_margin(best, decision.runner_up)]


def _interval(decision: Decision, best: Point) -> str:
    high = written(upper_end(best, decision.budget), decision.budget)
    if decision.budget.of == JOULE:
        return f"It takes {written(ends(best, decision.budget)[0], decision.budget)} to {high} J."
    if decision.certainty == "within":
        return f"Sure: the 95 % interval ends at {high}, within the budget."
    if decision.certainty == "unknown":
        return f"Unknown: {cost_name(decision.budget)} has no interval."
    return f"Not sure: the 95 % interval reaches {high}, beyond the budget. {_instead(decision)}"


def _instead(decision: Decision) -> str:
    best, safe = decision.best, decision.conservative
    if best is None or safe is None:
        return "No measured point is surely within."
    if safe.dense:
        return "Only dense is surely within."
    slower = 1 - safe.tokens_per_s / best.tokens_per_s
    return f"The conservative choice is {_percent(slower)} slower."


def _windows(best: Point, budget: Budget) -> list[str]:
    """A caveat where few windows tell how much they differ."""
    windows = best.windows if math.isfinite(best.windows) else best.setting.windows
    if not 0 < windows < FEW_WINDOWS or not math.isfinite(ends(best, budget)[1]):
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


# -- of a whole run --------------------------------------------------------------------------


def chosen_among(points: Iterable[Point]) -> list[str]:
    """That a choice is the best of many, which its interval does not know."""
    candidates = Counter(p.setting for p in points if p.measured and not (p.bound or p.dense))
    most = max(candidates.values(), default=0)
    if most < _FEW_CANDIDATES:
        return []
    said = (
        f"Each choice is the fastest of up to {most:,} points measured on the same windows. The"
        " 95 % interval is that of one point: of so many, some look better than they are, and those"
        " are chosen. Until it was measured on windows that it was not chosen on, none is certain."
    )
    return [said]


def outlook(decisions: Sequence[Decision], seconds: float) -> list[str]:
    """How many windows would make the choices at one budget sure, and how long these take.

    `seconds` is how long the evaluations of the run took, one after another of each worker; 0 where
    that is not known.
    """
    open_ones = [d for d in decisions if d.best and d.certainty == "beyond"]
    needed = {d: windows_needed(d.best, d.budget) for d in open_ones if d.best}
    near = sum(count > MANY_WINDOWS for count in needed.values())
    told = [(count, d) for d, count in needed.items() if count <= MANY_WINDOWS]
    if not told:
        return []
    count, decision = max(told, key=lambda pair: pair[0])
    assert decision.best is not None  # `needed` has no others
    have = decision.best.windows
    more = f", {_duration(seconds * (count / have - 1))} more here" if seconds > 0 else ""
    rest = f" {near} more are too near the budget to tell." if near else ""
    said = (
        f"For {decision.budget.label} you need about {count:,} windows where {have:g} were"
        f" evaluated{more}: then the intervals of {len(told)} more of these {len(decisions)}"
        f" choices should be within.{rest}"
    )
    return [said]


def windows_needed(point: Point, budget: Budget) -> float:
    """How many windows bring the interval within the budget, if estimate and spread stay as they
    are; infinite where none do, or where the spread is not known."""
    windows = point.windows if budget.of != JOULE else 0  # no window tells what a byte takes
    if budget.relative:
        estimate = math.log(point.ppl / point.ppl_dense) if point.ppl > 0 else math.nan
        half = math.log(max(point.ppl_ratio_high, 1e-300)) - estimate
        margin = math.log1p(budget.amount) - estimate
    else:
        estimate = cost(point, budget)
        half, margin = ends(point, budget)[1] - estimate, budget.amount - estimate
    if not (windows >= 2 and math.isfinite(half) and margin > 0):
        return math.inf
    spread = half * math.sqrt(windows) / _student_t(windows - 1)
    needed = max(2.0, math.ceil((1.96 * spread / margin) ** 2))
    while needed <= MANY_WINDOWS and _student_t(needed - 1) * spread > margin * math.sqrt(needed):
        needed += 1
    return needed


def _student_t(freedom: float) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs]

    return float(stdtrit(freedom, 0.975))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
