"""`--only PATTERN`: a part of what is missing of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from sweep.errors import InputError
from sweep.messages import nearest, show
from sweep.plan.excluded_points import aliases_of
from sweep.plan.plan import Plan, PlannedPoint
from sweep.tasks.task import KINDS

_FIELDS: Mapping[str, Callable[[PlannedPoint], Sequence[str]]] = {
    "method": lambda planned: aliases_of(planned.point),
    "model": lambda planned: [planned.point.model, planned.point.variant],
    "device": lambda planned: [planned.point.device.name],
    "policy": lambda planned: [planned.point.policy],
    "quant": lambda planned: [planned.point.quant.method],
}
_KIND = "kind"


def selected(plan: Plan, todo: Mapping[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """The tasks to run that the patterns name, and those that they need.

    A pattern is `method=dip*`, likewise of model, device, policy, quant or kind; a bare one is of
    any of method, model and kind. Patterns of one field widen the choice, those of different fields
    narrow it. Raises InputError for a field that does not exist and for patterns that name nothing.
    """
    by_field: dict[str, list[str]] = {}
    for pattern in patterns:
        field, equals, value = pattern.partition("=")
        if not equals:
            field, value = _field_of(plan, pattern), pattern
        if field != _KIND and field not in _FIELDS:
            fields = (*_FIELDS, _KIND)
            raise InputError(f"--only {pattern}: unknown field{nearest(field, fields)}")
        by_field.setdefault(field, []).append(value)
    kinds = by_field.pop(_KIND, ["*"])
    keys = {key for point in plan.points if _matches(point, by_field) for key in point.keys}
    keys = {key for key in keys if _any(kinds, [plan.tasks[key].kind])}
    if not keys:
        raise InputError(f"--only {', '.join(map(show, patterns))} names no task of this sweep")
    with_needs = _with_needs(plan, keys, todo)
    return {key: reason for key, reason in todo.items() if key in with_needs}


def _field_of(plan: Plan, pattern: str) -> str:
    """The field that a bare pattern is of: the first that it matches anything of."""
    if any(fnmatchcase(kind, pattern) for kind in KINDS):
        return _KIND
    fields = ("method", "model")
    for field in fields:
        if any(_any([pattern], _FIELDS[field](point)) for point in plan.points):
            return field
    names = [n for point in plan.points for field in fields for n in _FIELDS[field](point)]
    raise InputError(
        f"--only {pattern}: no method, model or kind of task is called so"
        f"{nearest(pattern, dict.fromkeys((*names, *KINDS)))}"
    )


def _matches(planned: PlannedPoint, by_field: Mapping[str, Sequence[str]]) -> bool:
    return all(_any(patterns, _FIELDS[field](planned)) for field, patterns in by_field.items())


def _any(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _with_needs(plan: Plan, keys: set[str], todo: Mapping[str, str]) -> set[str]:
    """These tasks, and what they need of what is missing."""
    reached: set[str] = set()
    left = [key for key in keys if key in todo]
    while left:
        key = left.pop()
        if key not in reached:
            reached.add(key)
            left += [needed for needed in plan.tasks[key].needs if needed in todo]
    return reached
