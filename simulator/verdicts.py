"""What comes of trying a rule of a contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one rule."""

    rule: str
    passed: bool
    reason: str = ""


class BrokenError(Exception):
    """A rule does not hold; the text says how."""


def try_rules(rules: Iterable[Callable[[Subject], None]], subject: Subject) -> list[Verdict]:
    """A verdict for each rule, named by the first line of its docstring."""
    return [_verdict(rule, subject) for rule in rules]


def _verdict(rule: Callable[[Subject], None], subject: Subject) -> Verdict:
    text = (rule.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    try:
        rule(subject)
    except BrokenError as broken:
        return Verdict(text, False, str(broken))
    except Exception as error:  # a user's code may raise anything
        return Verdict(text, False, f"{type(error).__name__}: {error}")
    return Verdict(text, True)
