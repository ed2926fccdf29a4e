"""What a generator makes: sheets of numbers for a table, panels of curves for a figure.

A number says how it came about: `measured` on the model of the paper, `geometry` (it follows from
the sizes of the model, nothing was run), `twin` (a small model in the paper's layout), or `printed`
(the paper's value alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from reports.findings.points import Point
from reports.paper.published import MODELS, Published
from reports.paper.source import Source

HOWS = ("measured", "geometry", "twin", "printed")


@dataclass(frozen=True, slots=True)
class Cell:
    """Our value beside the published one; None for what is not there."""

    how: str
    ours: float | None = None
    published: Published | None = None
    places: int = 2
    point: Point | None = None

    @property
    def difference(self) -> float | None:
        """Ours less the published value; None where either is missing or is only a bound."""
        if self.ours is None or self.published is None or self.published.bound:
            return None
        return self.ours - self.published.value


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a sheet; a row without cells is a heading."""

    label: str
    cells: Sequence[Cell | None] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table in the paper's layout. `twins` says of each column whether it is a small model's."""

    title: str
    columns: Sequence[str]
    twins: Sequence[bool]
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a panel; `band` has (low, high) pairs to be shaded, the widest first."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    how: str
    style: str = "line"  # line, marks, steps
    look: str = ""  # series whose colour and marker it takes; its own name if empty
    bands: Sequence[tuple[Sequence[float], Sequence[float]]] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a figure; `logs` names the axes that are logarithmic, as "y" or "xy"."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    logs: str = ""
    heights: tuple[float, float] | None = None  # ends of the ordinate; None fits it to the curves


@dataclass(frozen=True, slots=True)
class Made:
    """An exhibit as it can be drawn from what was given."""

    sheets: Sequence[Sheet] = ()
    panels: Sequence[Panel] = ()
    notes: Sequence[str] = ()

    def cells(self) -> Iterator[tuple[Sheet, Line, str, Cell]]:
        """Every number of every sheet with its line and column."""
        for sheet in self.sheets:
            for line in sheet.lines:
                for column, cell in zip(sheet.columns, line.cells, strict=False):
                    if cell is not None:
                        yield sheet, line, column, cell

    def count(self, how: str) -> int:
        """Numbers, or curves of a figure, that came about so."""
        curves = sum(c.how == how for p in self.panels for c in p.curves)
        return sum(cell.how == how for *_, cell in self.cells()) + curves

    @property
    def empty(self) -> bool:
        """Whether nothing of ours could be drawn."""
        return not any(self.count(how) for how in HOWS if how != "printed")


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A table or figure of the paper: what it shows, what makes it, and which sweeps it needs."""

    name: str
    title: str
    make: Callable[[Source], Made]
    sweeps: Sequence[str] = field(default=())
    twins: Sequence[str] = field(default=())
    differs: str = ""
    """What of the printed one is not drawn, or drawn otherwise, and why."""

    def of(self, source: Source) -> Source:
        """The source, its twins from the sweeps of this exhibit if any of them was run."""
        return source.of_sweeps((*self.sweeps, *self.twins), MODELS)
