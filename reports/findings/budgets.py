"""How much worse perplexity may get: an absolute increase, or a share of the dense perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.results import ReportError

DEFAULT_BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")


@dataclass(frozen=True, slots=True)
class Budget:
    """An allowed increase of perplexity; `amount` is a share of the dense one when relative."""

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, given: Budget | float | str) -> Budget:
        """A Budget from `0.2`, `"0.2"`, `"+0.2"` or `"5%"`; ReportError for anything else."""
        if isinstance(given, Budget):
            return given
        written = str(given).strip()
        relative = written.endswith("%")
        try:
            amount = float(written.rstrip("%").strip())
        except ValueError:
            raise ReportError(_fault(given)) from None
        if not math.isfinite(amount) or amount < 0:
            raise ReportError(_fault(given))
        return cls(amount / 100 if relative else amount, relative)

    def limit(self, ppl_dense: float) -> float:
        """The largest allowed increase of perplexity, given the dense one."""
        return self.amount * ppl_dense if self.relative else self.amount

    @property
    def label(self) -> str:
        """`+0.2 PPL` or `+5 %`."""
        return f"+{self.amount * 100:g} %" if self.relative else f"+{self.amount:g} PPL"


def _fault(budget: object) -> str:
    return f"budget {budget!r}: must be a perplexity increase such as 0.2, or a share such as '5%'"


def parse_all(budgets: Iterable[Budget | float | str]) -> tuple[Budget, ...]:
    """Budgets without repeats, in the given order: the default ones when there are none."""
    return tuple(dict.fromkeys(Budget.parse(b) for b in budgets)) or parse_all(DEFAULT_BUDGETS)
