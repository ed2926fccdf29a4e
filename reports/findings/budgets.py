"""How far a model may be from the dense one: in perplexity, absolute or a share, in KL or accuracy;
or what energy a token may take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from reports.results import ReportError

DEFAULT_BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")
PPL, KL, JOULE = "ppl", "kl", "joule"
"""What a budget can be of; or of the accuracy on a task, by its column: acc_TASK."""
ACCURACY = "acc_"


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost: an increase of perplexity, of which `amount` is a share of the dense one
    when relative; a mean KL to the dense model in nats; or as much of the dense model's accuracy on
    a task. Or what a token may take, in joules."""

    amount: float
    relative: bool = False
    of: str = PPL

    @classmethod
    def parse(cls, given: Budget | float | str) -> Budget:
        """A Budget from `0.2`, `"0.2"`, `"+0.2"`, `"5%"`, `"kl=0.02"`, `"joule=0.4"` or
        `"acc_mmlu=0.02"`; ReportError for anything else."""
        if isinstance(given, Budget):
            return given
        name, is_named, value = str(given).partition("=")
        of = named(name) if is_named else PPL
        written = (value if is_named else str(given)).strip()
        relative = written.endswith("%")
        try:
            amount = float(written.rstrip("%").strip())
        except ValueError:
            raise ReportError(_fault(given)) from None
        if not math.isfinite(amount) or amount < 0 or (relative and of != PPL) or not of:
            raise ReportError(_fault(given))
        return cls(amount / 100 if relative else amount, relative, of)

    def limit(self, ppl_dense: float) -> float:
        """The largest value allowed of what it is of, given the dense perplexity."""
        return self.amount * ppl_dense if self.relative else self.amount

    @property
    def written(self) -> str:
        """As a sweep file has it: `0.2`, `5%`, `kl=0.02`."""
        amount = f"{self.amount * 100:.12g}%" if self.relative else f"{self.amount:.12g}"
        return amount if self.of == PPL else f"{self.of}={amount}"

    @property
    def label(self) -> str:
        """`+0.2 PPL`, `+5 %`, `KL ≤ 0.02 nat`, `0.4 J a token` or `-0.02 of acc_mmlu`."""
        if self.of == KL:
            return f"KL ≤ {self.amount:g} nat"
        if self.of == JOULE:
            return f"{self.amount:g} J a token"
        if self.of != PPL:
            return f"-{self.amount:g} of {self.of}"
        return f"+{self.amount * 100:g} %" if self.relative else f"+{self.amount:g} PPL"


def _fault(budget: object) -> str:
    return (
        f"budget {budget!r}: must be a perplexity increase such as 0.2, a share such as '5%', a KL"
        " in nats such as 'kl=0.02', joules a token such as 'joule=0.4', or a loss of accuracy such"
        " as 'acc_mmlu=0.02'"
    )


def named(name: str) -> str:
    """What a budget is of that is written as name=amount; empty where there is no such."""
    plain = name.strip().lower()
    if plain in (KL, JOULE):
        return plain
    is_task = name.strip().startswith(ACCURACY) and len(name.strip()) > len(ACCURACY)
    return name.strip() if is_task else ""


def parse_all(budgets: Iterable[Budget | float | str]) -> tuple[Budget, ...]:
    """Budgets without repeats, in the given order: the default ones when there are none."""
    return tuple(dict.fromkeys(Budget.parse(b) for b in budgets)) or parse_all(DEFAULT_BUDGETS)


def kinds(budgets: Iterable[Budget]) -> tuple[str, ...]:
    """What budgets are of, perplexity first, then KL."""
    present = list(dict.fromkeys(budget.of for budget in budgets))
    return tuple(sorted(present, key=lambda of: (of != PPL, of != KL)))


def of_perplexity(budgets: Iterable[Budget]) -> tuple[Budget, ...]:
    """Those that are held against ΔPPL."""
    return tuple(budget for budget in budgets if budget.of == PPL)
