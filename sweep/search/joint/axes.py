"""What the points of a sweep differ in, as the space of a study; and from a choice to the point.

A point has a coordinate for each of its fields but those of its setting, and for each parameter of
its method and of its quantisation. Fields are read off the point, so an axis that a sweep learns to
list is searched without a line here. An axis that another one decides, as the parameter of one
method alone whose value never changes, is left out.

A choice of values leads to one point of the list. Axis after axis, names before numbers, those
points are kept that have the value, or the nearest number to it; where they are all alike, the axis
means nothing for them and is passed over. So every choice is a point that the sweep lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sweep.errors import InputError
from sweep.plan.point import Point, Quant
from sweep.spec.spaces import LAM, Choices, Space

Coordinates = dict[str, Any]

_OF_SETTING = (
    *("sweep", "model", "swap", "geometry", "device", "timing", "accuracy"),
    *("kv_bits", "kv_tokens", "cache_start", "cache_scope"),
)
"""Fields in which points of one setting agree, or whose value says nothing to choose by."""
PRICED = "met by"
"""Whether reads have a price, and the density is what comes of it, or the density is given."""


def coordinates(point: Point) -> Coordinates:
    """What a point is, but for its setting: a number or a text by name."""
    own = {f.name: getattr(point, f.name) for f in fields(point) if f.compare}
    named = {key: value for key, value in own.items() if key not in _OF_SETTING}
    parameters, quant = dict(named.pop("parameters")), named.pop("quant")
    named[PRICED] = LAM if point.lam is not None else "density"
    del named["density" if point.lam is not None else LAM]
    if point.selector == "cache-aware" and point.gamma < 1:
        named["selector"] = "topk"  # with its γ
    further = {(f"{key} of method" if key in own else key): v for key, v in parameters.items()}
    return {key: _plain(value) for key, value in (named | further | _of_quant(quant)).items()}


def _of_quant(quant: Quant) -> Coordinates:
    parameters = dict(quant.parameters)
    own = {name: getattr(quant, name) for name in quant.__slots__ if name != "parameters"}
    named = {f"quant {name}": value for name, value in (own | parameters).items()}
    return {"quant": named.pop("quant method"), "bits": named.pop("quant bits")} | named


def _plain(value: Any) -> int | float | str:
    """A number as it is, and text for all else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, tuple):
        return " ".join(str(_plain(part)) for part in value) or "none"
    return str(value)


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of some points, each with the values that it takes."""

    points: tuple[Point, ...]
    rows: tuple[Coordinates, ...]
    """The coordinates of each point."""
    values: dict[str, Choices]
    """Names first, in the order in which a choice is read; numbers rise."""
    _parts: dict[tuple[Any, ...], dict[Any, list[int]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Places by the values that lead to them, as far as choices were read."""

    @classmethod
    def of(cls, points: Iterable[Point]) -> Axes:
        """The axes of these points, which must be of one setting."""
        listed = tuple(points)
        rows = tuple(coordinates(point) for point in listed)
        names = list(dict.fromkeys(name for row in rows for name in row))
        values = {name: _values(rows, name) for name in names}
        of_text = [name for name in names if isinstance(values[name][0], str)]
        of_number = [name for name in names if name not in of_text]
        rows = tuple(_with_text(row, of_text) for row in rows)
        kept: dict[str, Choices] = {}
        for name in (*of_text, *of_number):
            if len(values[name]) > 1 and not any(_decides(rows, other, name) for other in kept):
                kept[name] = Choices(values[name])
        return cls(listed, rows, kept)

    def check(self, where: str) -> None:
        """Raise InputError where a point cannot be chosen, naming what it differs in from the one
        that is chosen in its place."""
        for place, point in enumerate(self.points):
            other = self.point(self.choice(place))
            if other is not point:
                differing = [f.name for f in fields(point) if _differ(point, other, f.name)]
                text = f"points that differ in {' and '.join(differing)} alone cannot be told apart"
                raise InputError(f"{where}: {text} in one search; list one of them")

    @property
    def space(self) -> dict[str, Space]:
        """The axes as a sampler has them: of numbers their places from the lowest on, so that it
        knows the order of a list whose steps are not equal."""
        return {
            name: choices if isinstance(choices.values[0], str) else _places(choices)
            for name, choices in self.values.items()
        }

    def point(self, choice: Mapping[str, Any]) -> Point:
        """The point that a choice of the space leads to."""
        return self.points[self.place(choice)]

    def place(self, choice: Mapping[str, Any]) -> int:
        """The place of that point."""
        return self.nearest({k: self._value(k, choice[k]) for k in self.values})

    def near(self, place: int) -> list[int]:
        """Places of the points to which a step on one axis leads from a place: to the number before
        or after it, or to any other name."""
        choice, own = self.choice(place), self.rows[place]
        here = {name: self._value(name, chosen) for name, chosen in choice.items()}
        stepped = [
            self.nearest(here | {name: value})
            for name, choices in self.values.items()
            for value in _steps(choices.values, own.get(name))
        ]
        return [other for other in dict.fromkeys(stepped) if other != place]

    def _value(self, name: str, chosen: Any) -> Any:
        return chosen if isinstance(chosen, str) else self.values[name].values[round(chosen)]

    def nearest(self, wanted: Mapping[str, Any], among: Sequence[int] = ()) -> int:
        """The place of the point, `among` some if any are given, that is nearest to some values."""
        kept, parts_at = among or range(len(self.points)), {} if among else self._parts
        path: tuple[Any, ...] = ()
        for name in self.values:
            if path not in parts_at:
                parts_at[path] = self._by_value(kept, name)
            parts = parts_at[path]
            value = wanted[name] if wanted[name] in parts else _nearest(wanted[name], parts)
            kept, path = parts[value], (*path, value)
        return kept[0]

    def _by_value(self, among: Sequence[int], name: str) -> dict[Any, list[int]]:
        """Places by what they have on an axis; None for those that lack it."""
        parts: dict[Any, list[int]] = {}
        for place in among:
            parts.setdefault(self.rows[place].get(name), []).append(place)
        return parts

    def choice(self, place: int) -> Coordinates:
        """A choice that leads to the point at a place; of an axis that it lacks the last number, or
        the first name."""
        row = self.rows[place]
        return {name: self._chosen(name, row.get(name)) for name in self.values}

    def _chosen(self, name: str, value: Any) -> Any:
        values = self.values[name].values
        if isinstance(values[0], str):
            return values[0] if value is None else value
        return len(values) - 1 if value is None else values.index(value)


def _nearest(value: Any, among: Iterable[Any]) -> Any:
    """The nearest number, the lower of two; of names, and where there is one value, the first."""
    listed = list(among)
    numbers = [v for v in listed if v is not None]
    if len(listed) < 2 or isinstance(value, str):
        return listed[0]
    return min(numbers, key=lambda v: (abs(v - value), v))


def _steps(values: Sequence[Any], value: Any) -> Sequence[Any]:
    """The values one step from one of them; none from none."""
    if value is None:
        return ()
    if isinstance(value, str):
        return [other for other in values if other != value]
    at = values.index(value)
    return [*values[max(0, at - 1) : at], *values[at + 1 : at + 2]]


def _differ(point: Point, other: Point, name: str) -> bool:
    return name != "traits" and getattr(point, name) != getattr(other, name)


def _places(choices: Choices) -> Choices:
    return Choices(tuple(range(len(choices.values))))


def _values(rows: Iterable[Coordinates], name: str) -> tuple[Any, ...]:
    """The values of an axis: numbers by size, names as they are met; text where some are text."""
    values = dict.fromkeys(row[name] for row in rows if name in row)
    if any(isinstance(value, str) for value in values):
        return tuple(dict.fromkeys(map(str, values)))
    return tuple(sorted(values))


def _with_text(row: Coordinates, names: Sequence[str]) -> Coordinates:
    return {key: str(value) if key in names else value for key, value in row.items()}


def _decides(rows: Iterable[Coordinates], name: str, other: str) -> bool:
    """Whether the value on one axis says the value on the other."""
    told: dict[Any, Any] = {}
    return all(told.setdefault(row.get(name), row.get(other)) == row.get(other) for row in rows)
