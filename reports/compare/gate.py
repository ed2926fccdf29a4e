"""`--fail-if`: which changes fail a build, as a small language of one comparison each.

    tokens_per_s < -2%              a point is more than 2 % slower
    delta_ppl > +0.05               ΔPPL of a point has risen by more than 0.05
    ppl > 0 significant             perplexity has risen, and its interval leaves out zero
    kl > +0.01                      KL to the dense model has risen by more than 0.01 nat
    best@0.2 < -1%                  the fastest within +0.2 PPL is more than 1 % slower
    best@kl=0.02 < -1%              the fastest within a KL of 0.02 nat is
    best@5% < -1% decided           the same of what is certain, where both runs have decided it
    removed > 0, added > 0, failed > 0    how many points went, came, or failed that were done
    open > 0, undecided > 0         choices that are open now, and those that were decided before

A metric is compared by its change, new less old, or with % by that over the old value. A point that
had a value and has none any more always counts as a hit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from reports.compare.changes import (
    ADDED_METRICS,
    JUDGED,
    METRICS,
    Best,
    Changes,
    Difference,
    describe,
)
from reports.findings.budgets import Budget
from reports.findings.points import setting_label
from reports.results import ReportError

COUNTS = ("added", "removed", "failed")
CERTAIN = ("open", "undecided")
"""Counts of choices of runs that were to become certain."""
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_EXPRESSION = re.compile(
    r"\s*(?P<metric>[A-Za-z_][\w.\-]*(?:@(?:\w[\w.\-]*=)?[^\s<>=]+)?)\s*(?P<operator><=|>=|<|>)"
    r"\s*(?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<percent>%)?"
    r"(?:\s+(?P<word>significant|decided))?\s*"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One parsed expression. `limit` is a share where `relative`; `budget` is that of best@, of
    which with `decided` only what is certain counts."""

    text: str
    metric: str
    operator: str
    limit: float
    relative: bool
    significant: bool
    budget: Budget | None = None
    decided: bool = False

    def holds(self, difference: Difference) -> bool:
        """Whether a change is what the expression says; a value that is gone always is."""
        if difference.lost:
            return True
        value = difference.share if self.relative else difference.change
        if math.isnan(value) or not _OPERATORS[self.operator](value, self.limit):
            return False
        return not self.significant or difference.significant is True


@dataclass(frozen=True, slots=True)
class Hit:
    """A change that an expression catches."""

    gate: Gate
    what: str
    old: float
    new: float

    @property
    def text(self) -> str:
        """`tokens_per_s < -2%: dip · … : 25.5 -> 24.1 (-5.49 %)`."""
        if self.gate.metric in (*COUNTS, *CERTAIN):
            return f"{self.gate.text}: {self.what}"
        if math.isnan(self.new):
            return f"{self.gate.text}: {self.what}: {self.old:.6g} -> no value any more"
        difference = Difference(self.gate.metric, self.old, self.new)
        share = f", {100 * difference.share:+.3g} %" if math.isfinite(difference.share) else ""
        return (
            f"{self.gate.text}: {self.what}: {self.old:.6g} -> {self.new:.6g}"
            f" ({difference.change:+.4g}{share})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one expression found in one comparison: hits, how many changes it looked at, and how
    many of these had no interval though `significant` asks for one."""

    gate: Gate
    hits: Sequence[Hit]
    looked_at: int
    unknown: int = 0


def parse(text: str) -> Gate:
    """An expression. Raises ReportError that says what was given and what is allowed."""
    matched = _EXPRESSION.fullmatch(text)
    if matched is None:
        raise ReportError(
            f"--fail-if {text!r}: write METRIC < NUMBER, as 'tokens_per_s < -2%' or"
            " 'delta_ppl > +0.05' (operators: <, <=, >, >=)"
        )
    name, _, budget = matched["metric"].partition("@")
    relative, word = bool(matched["percent"]), matched["word"] or ""
    _check(text, name, budget, relative, word)
    limit = float(matched["number"]) / (100 if relative else 1)
    if not math.isfinite(limit):
        raise ReportError(f"--fail-if {text!r}: the number is too large")
    parsed = Budget.parse(budget) if budget else None
    words = " ".join(text.split())
    decided, significant = word == "decided", word == "significant"
    return Gate(words, name, matched["operator"], limit, relative, significant, parsed, decided)


def _check(text: str, name: str, budget: str, relative: bool, word: str) -> None:
    metrics = ("best", *METRICS, *ADDED_METRICS, *COUNTS, *CERTAIN)
    if name not in metrics and not name.startswith("acc_"):
        near = get_close_matches(name, metrics, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        names = ", ".join(("best@BUDGET", *metrics[1:], "acc_TASK"))
        raise ReportError(f"--fail-if {text!r}: unknown metric {name!r}{hint} (allowed: {names})")
    if (name == "best") != bool(budget):
        raise ReportError(f"--fail-if {text!r}: a budget goes with best alone, as best@0.2")
    if name in (*COUNTS, *CERTAIN) and relative:
        of = "points" if name in COUNTS else "choices"
        raise ReportError(f"--fail-if {text!r}: {name} is a number of {of}, not a share")
    if word == "decided" and name != "best":
        raise ReportError(f"--fail-if {text!r}: only best@BUDGET can be decided")
    if word == "significant" and name not in JUDGED:
        allowed = " and ".join(JUDGED)
        raise ReportError(f"--fail-if {text!r}: only {allowed} have intervals to be significant")


def judge(gate: Gate, changes: Changes) -> Verdict:
    """What an expression catches. Raises ReportError when there is nothing that it could look at:
    a gate that checks nothing must not pass."""
    if gate.metric in COUNTS:
        return _judge_count(gate, changes)
    if gate.metric in CERTAIN:
        return _judge_certain(gate, changes)
    comparable = [(what, d) for what, d in _differences(gate, changes) if not math.isnan(d.old)]
    if not comparable:
        raise ReportError(
            f"--fail-if {gate.text!r}: no point of {changes.new.name} has a value of"
            f" {gate.metric} in {changes.old.name} to compare with"
        )
    hits = [Hit(gate, what, d.old, d.new) for what, d in comparable if gate.holds(d)]
    unknown = sum(d.significant is None for _, d in comparable) if gate.significant else 0
    return Verdict(gate, hits, len(comparable), unknown)


def _judge_count(gate: Gate, changes: Changes) -> Verdict:
    new = {"added": changes.added, "removed": changes.removed}
    caught = [p.new for p in changes.failed] if gate.metric == "failed" else new[gate.metric]
    looked_at = len(changes.pairs) + len(changes.added) + len(changes.removed)
    if not _OPERATORS[gate.operator](len(caught), gate.limit):
        return Verdict(gate, [], looked_at)
    names = [describe(p) for p in caught] or [f"no point {gate.metric}"]
    return Verdict(gate, [Hit(gate, name, math.nan, math.nan) for name in names], looked_at)


def _judge_certain(gate: Gate, changes: Changes) -> Verdict:
    """Choices by what is certain of them."""
    needs = changes.new if gate.metric == "open" else changes.old
    looked_at = [best for best in changes.best if changes.new.certified or changes.old.certified]
    if not needs.certified:
        raise ReportError(
            f"--fail-if {gate.text!r}: {needs.name} was not run until it is certain"
            " (sweep certify), so that nothing of it is open or decided"
        )
    caught = [best for best in looked_at if getattr(best, gate.metric)]
    if not _OPERATORS[gate.operator](len(caught), gate.limit):
        return Verdict(gate, [], len(looked_at))
    names = [_cell_name(best) for best in caught] or [f"no choice {gate.metric}"]
    return Verdict(gate, [Hit(gate, n, math.nan, math.nan) for n in names], len(looked_at))


def _cell_name(best: Best) -> str:
    return f"{setting_label(best.setting)} within {best.budget.label}"


def _differences(gate: Gate, changes: Changes) -> Iterator[tuple[str, Difference]]:
    if gate.metric != "best":
        for pair in changes.pairs:
            if gate.metric in pair.differences:
                yield describe(pair.new), pair.differences[gate.metric]
        return
    for best in changes.best:
        meant = best.decided if gate.decided else best
        if meant is not None and best.budget == gate.budget:
            point, what = meant.new or meant.old, _cell_name(best)
            yield f"{what}: {describe(point)}" if point else what, meant.speed
