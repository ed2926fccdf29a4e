"""What a certification states of each choice, at one level for all of them (SEMANTICS 13)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.findings.budgets import JOULE, PPL, Budget
from reports.findings.costs import cost, written
from reports.findings.points import Point, Setting, configuration
from reports.numbers import ABSENT, figure, percent, signed, times


@dataclass(frozen=True, slots=True)
class Certified:
    """What is certain of one device setting and budget.

    decided         the choice is within the budget, and no faster candidate is
    choice          the fastest that is surely within, also where a faster one may be; None if none
    bound           of what the budget limits of the choice, as the budget has it; NaN where unknown
    estimated       the fastest whose estimate is within; None if none
    rivals          faster candidates of which it is open
    windows_needed  how many windows would decide it, as it looks; infinite where none would
    """

    setting: Setting
    budget: Budget
    decided: bool
    choice: Point | None
    bound: float
    estimated: Point | None
    rivals: tuple[Point, ...]
    windows_needed: float

    @property
    def state(self) -> str:
        return "decided" if self.decided else "open"

    @property
    def bound_text(self) -> str:
        """`at most +3.1 %`; a dash where there is no choice."""
        if self.choice is None or not math.isfinite(self.bound):
            return ABSENT
        if self.budget.relative:
            return f"at most {signed(100 * self.bound, 2)} %"
        return f"at most {written(self.bound, self.budget)}"


@dataclass(frozen=True, slots=True)
class Statement:
    """What is certain of a run as a whole."""

    alpha: float
    looks: Sequence[int]
    windows_of_text: int
    windows_used: int
    windows_of_all: int
    cells: Mapping[tuple[Setting, Budget], Certified]

    @property
    def confidence(self) -> str:
        """`95 %`."""
        return f"{100 * (1 - self.alpha):.6g} %"

    def about(self, cell: Certified) -> str:
        """A sentence on a cell: that it is decided, or what would settle it."""
        if cell.decided:
            nothing = f"no candidate is within {cell.budget.label}"
            return f"Decided: {nothing}." if cell.choice is None else "Decided."
        many = len(cell.rivals)
        who = configuration(cell.rivals[0]) if many == 1 else f"{many} faster points"
        return f"Open: {who} may be within, too. {self._settles(cell)}"

    def _settles(self, cell: Certified) -> str:
        if cell.budget.of == JOULE:
            return "No window tells: what a byte takes is an interval."
        if not math.isfinite(cell.windows_needed):
            return "As it looks, no number of windows would tell: the limit is too near."
        most = self.looks[-1]
        more = cell.windows_needed - most
        text = "" if self.windows_of_text >= cell.windows_needed else ", more than the text has"
        if more <= 0:  # the next look would have been there, had it been worth going on
            return f"Some {cell.windows_needed:,.0f} windows would tell."
        return f"Some {cell.windows_needed:,.0f} windows would tell, {more:,.0f} more{text}."


HEADER = (
    "Device setting",
    "Budget",
    "Certain",
    "tok/s",
    "Gain",
    "Loss",
    "By the estimate",
    "State",
)


def row(statement: Statement, cell: Certified, setting: str) -> list[str]:
    """A row under HEADER; `setting` is its name."""
    choice = cell.choice
    return [
        setting,
        cell.budget.label,
        configuration(choice) if choice else "none",
        figure(choice.tokens_per_s) if choice else ABSENT,
        times(choice.gain) if choice else ABSENT,
        cell.bound_text,
        _estimated(cell),
        statement.about(cell),
    ]


def _estimated(cell: Certified) -> str:
    """The point estimate's choice, where it is another than what is certain."""
    best = cell.estimated
    if best is None or best == cell.choice:
        return "the same" if best is not None else "none"
    loss = written(cost(best, cell.budget), cell.budget)
    return f"{configuration(best)}: {figure(best.tokens_per_s)} tok/s, {loss}"


def headlines(statement: Statement) -> list[str]:
    """What a report leads with: who is surely within, model by model, and how many choices are
    decided."""
    cells = list(statement.cells.values())
    decided = sum(cell.decided for cell in cells)
    used = statement.windows_used / max(1, statement.windows_of_all)
    total = (
        f"Decided at {statement.confidence}, for all of them together: {decided} of {len(cells)}"
        f" choices. It took {percent(used, 0)} of the windows that all points on"
        f" {statement.looks[-1]:,} windows take."
    )
    still_open = [cell for cell in cells if not cell.decided]
    lines = [*_by_weights(statement, cells), total]
    return [*lines, _of_open(statement, still_open)] if still_open else lines


def _by_weights(statement: Statement, cells: Sequence[Certified]) -> list[str]:
    """Of each model, at the budget at which most pruned choices are certain: in perplexity, if it
    has such; of equal ones the first."""
    by_weights: dict[tuple[str, str], dict[Budget, list[Certified]]] = {}
    for cell in cells:
        if cell.choice is not None and not cell.choice.dense:
            of_weights = by_weights.setdefault(cell.setting.weights, {})
            of_weights.setdefault(cell.budget, []).append(cell)
    return [
        _winners(statement, *max(choices.items(), key=lambda item: _worth(*item)))
        for choices in by_weights.values()
    ]


def _worth(budget: Budget, cells: Sequence[Certified]) -> tuple[bool, int, int]:
    return budget.of == PPL, len(cells), sum(cell.decided for cell in cells)


def _winners(statement: Statement, budget: Budget, cells: Sequence[Certified]) -> str:
    """`SmolLM2: certain at 95 % to be within +5 %: dip-ca in 4 of 6 settings, 1.2 to 1.6×.`"""
    choices = [cell.choice for cell in cells if cell.choice is not None]
    ranked = Counter(p.series for p in choices).most_common()
    settings = len({setting for setting, of in statement.cells if of == budget})
    where = ", ".join(f"{series} in {count} of {settings} settings" for series, count in ranked)
    gains = sorted(p.gain for p in choices)
    span = times(gains[0]) if len(gains) == 1 else f"{times(gains[0])} to {times(gains[-1])}"
    model = choices[0].setting.model_title or choices[0].setting.model
    decided = sum(cell.decided for cell in cells)
    faster = {0: "a faster one may be, too", len(cells): "no faster candidate is"}
    rest = faster.get(decided, f"in {decided} no faster candidate is")
    return (
        f"{model}: certain at {statement.confidence} to be within {budget.label}: {where}, {span}"
        f" dense; {rest}."
    )


def _of_open(statement: Statement, cells: Sequence[Certified]) -> str:
    """What the open ones lack."""
    reach = [c.windows_needed for c in cells if c.windows_needed <= statement.windows_of_text]
    near = sum(c.windows_needed > statement.windows_of_text for c in cells)
    parts: list[str] = []
    if reach:
        parts.append(f"{len(reach)} would take up to some {max(reach):,.0f} windows")
    if near:
        text = f"the {statement.windows_of_text:,} windows of the text"
        parts.append(f"{near} cannot be decided by {text}, as it looks")
    count = len(cells)
    return f"{count} {'is' if count == 1 else 'are'} open: {'; '.join(parts)}."
