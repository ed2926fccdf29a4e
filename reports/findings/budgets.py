"""How far a model may be from the dense one: in perplexity, absolute or a share, or in KL."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.results import ReportError

DEFAULT_BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")
PPL, KL = "ppl", "kl"
"""What a budget can be of."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost: an increase of perplexity, of which `amount` is a share of the dense one
    when relative, or a mean KL to the dense model in nats."""

    amount: float
    relative: bool = False
    of: str = PPL

    @classmethod
    def parse(cls, given: Budget | float | str) -> Budget:
        """A Budget from `0.2`, `"0.2"`, `"+0.2"`, `"5%"` or `"kl=0.02"`; ReportError for anything
        else."""
        if isinstance(given, Budget):
            return given
        name, is_named, value = str(given).partition("=")
        of = KL if is_named and name.strip().lower() == KL else PPL
        written = (value if of == KL else str(given)).strip()
        relative = written.endswith("%")
        try:
            amount = float(written.rstrip("%").strip())
        except ValueError:
            raise ReportError(_fault(given)) from None
        if not math.isfinite(amount) or amount < 0 or (relative and of == KL):
            raise ReportError(_fault(given))
        return cls(amount / 100 if relative else amount, relative, of)

    def limit(self, ppl_dense: float) -> float:
        """The largest value allowed of what it is of, given the dense perplexity."""
        return self.amount * ppl_dense if self.relative else self.amount

    @property
    def label(self) -> str:
        """`+0.2 PPL`, `+5 %` or `KL ≤ 0.02 nat`."""
        if self.of == KL:
            return f"KL ≤ {self.amount:g} nat"
        return f"+{self.amount * 100:g} %" if self.relative else f"+{self.amount:g} PPL"


def _fault(budget: object) -> str:
    return (
        f"budget {budget!r}: must be a perplexity increase such as 0.2, a share such as '5%', or a"
        " KL in nats such as 'kl=0.02'"
    )


def parse_all(budgets: Iterable[Budget | float | str]) -> tuple[Budget, ...]:
    """Budgets without repeats, in the given order: the default ones when there are none."""
    return tuple(dict.fromkeys(Budget.parse(b) for b in budgets)) or parse_all(DEFAULT_BUDGETS)


def kinds(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """What budgets are of, perplexity first."""
    present = {budget.of for budget in budgets}
    return tuple(of for of in (PPL, KL) if of in present)


def of_perplexity(budgets: Iterable[Budget]) -> tuple[Budget, ...]:
    """Those that are held against ΔPPL."""
    return tuple(budget for budget in budgets if budget.of == PPL)
