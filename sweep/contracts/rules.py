"""What a rule is: a function of a factory that raises ContractError where it does not hold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

Made = TypeVar("Made")
Rule: TypeAlias = Callable[[Made], None]


class ContractError(AssertionError):
    """A rule does not hold; the text says which and how."""


def rule(function: Callable[[Made], None]) -> Callable[[Made], None]:
    """Whatever is raised inside becomes a ContractError that begins with what the rule says."""
    says = (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    @functools.wraps(function)
    def tried(make: Made) -> None:
        try:
            function(make)
        except ContractError as error:
            raise ContractError(f"{says}: {error}") from error.__cause__
        except Exception as error:  # somebody's own code may raise anything
            raise ContractError(f"{says}: {type(error).__name__}: {error}") from error

    return tried


def need(holds: bool, otherwise: str) -> None:
    """ContractError with the text unless it holds."""
    if not holds:
        raise ContractError(otherwise)


def equal(got: Any, expected: Any, what: str) -> None:
    """ContractError unless the two are equal."""
    need(got == expected, f"{what} is {got!r}, not {expected!r}")


@contextmanager
def refused(kind: type[Exception], what: str, *words: str) -> Iterator[None]:
    """ContractError unless an error of that kind is raised whose text has all the words."""
    try:
        yield
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        need(not missing, f"{what}: the error {str(error)!r} does not name {missing[:1]}")
        return
    raise ContractError(f"{what} is not refused with {kind.__name__}")
