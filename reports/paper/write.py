"""Exhibits as files: Markdown, CSV and LaTeX for numbers, SVG and PDF for figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.numbers import ABSENT, fixed, signed
from reports.pages.latex import tabular
from reports.pages.markup import latex as tex
from reports.pages.markup import markdown as md
from reports.pages.markup import table
from reports.paper.draw import draw
from reports.paper.exhibit import Cell, Exhibit, Made, Sheet
from reports.paper.source import Source
from reports.report import write

LEGEND = (
    "`ours (printed, difference)`: measured on the paper's model · ‡ follows from the model's sizes"
    " alone, nothing was run · † not measured on the paper's text, WikiText-2 · *italics*: only the"
    " printed value, the model was not run · columns marked *twin* are a small model in the paper's"
    " layout, with no printed value to compare"
)
STUDIES = ("figure12", "allocation")  # what makes these is `sweep tune`
CSV_COLUMNS: tuple[str, ...] = (
    *("exhibit", "part", "row", "column", "x", "how", "ours", "published", "difference"),
    "point_key",
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """An exhibit that was made, and the files that show it."""

    exhibit: Exhibit
    made: Made
    files: Sequence[Path]

    @property
    def figure(self) -> Path | None:
        return next((path for path in self.files if path.suffix == ".svg"), None)


def build(exhibits: Iterable[Exhibit], source: Source, folder: Path) -> list[Drawn]:
    """Make every exhibit and write its files into `folder`; one that is empty has its Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_build(exhibit, source, folder) for exhibit in exhibits]


def _build(exhibit: Exhibit, source: Source, folder: Path) -> Drawn:
    content, name = exhibit.make(exhibit.of(source)), exhibit.name
    files: list[Path] = []
    if content.panels:
        files += draw(content.panels, folder, name)
    if content.sheets:
        files.append(write(folder / f"{name}.tex", latex(exhibit, content)))
    files.append(write(folder / f"{name}.csv", numbers(exhibit, content)))
    drawn = Drawn(exhibit, content, files)
    text = "\n\n".join([f"# {label(exhibit)}", *body(drawn)])
    return Drawn(exhibit, content, [write(folder / f"{name}.md", text + "\n"), *files])


def label(exhibit: Exhibit) -> str:
    """`Table 2: Throughput of …`; the title alone where the paper has no such exhibit."""
    if not exhibit.name[-1].isdigit():
        return exhibit.title[0].upper() + exhibit.title[1:]
    kind, number = exhibit.name[:-1], exhibit.name[-1]
    while kind[-1].isdigit():
        kind, number = kind[:-1], kind[-1] + number
    return f"{kind.capitalize()} {number}: {exhibit.title}"


def body(drawn: Drawn, images: str = "") -> Iterator[str]:
    """Sheets, figure and notes as Markdown; `images` is the folder of the figures, seen from the
    page, with a slash at its end."""
    content, exhibit = drawn.made, drawn.exhibit
    for sheet in content.sheets:
        yield sheet_markdown(sheet)
    if content.sheets:
        yield LEGEND
    if drawn.figure is not None:
        yield f"![{md(label(exhibit))}]({images}{drawn.figure.name})"
    if content.empty:
        yield f"**Nothing of ours is drawn yet.** {md(needs(exhibit))}"
    if exhibit.differs:
        yield f"Other than in the paper: {exhibit.differs}."
    if content.notes:
        yield "\n".join(f"- {md(note)}" for note in content.notes)


def needs(exhibit: Exhibit) -> str:
    """Which sweeps would fill it."""
    full, twin = (
        " or ".join(f"sweep {'tune' if name in STUDIES else 'run'} {name}" for name in names)
        for names in (exhibit.sweeps, exhibit.twins)
    )
    return "; ".join(part for part in (full, twin and f"its twin: {twin}") if part) + "."


def sheet_markdown(sheet: Sheet) -> str:
    """A sheet as a Markdown table; every name is escaped."""
    header = ["", *(f"{md(c)} (twin)" if t else md(c) for c, t in _columns(sheet))]
    rows = []
    for line in sheet.lines:
        if not line.cells:
            rows.append([f"**{md(line.label)}**", *[""] * len(sheet.columns)])
        else:
            rows.append([md(line.label), *(cell_text(cell) for cell in line.cells)])
    return table(header, rows, "-" + "r" * len(sheet.columns))


def _columns(sheet: Sheet) -> Iterator[tuple[str, bool]]:
    return zip(sheet.columns, sheet.twins, strict=True)


def cell_text(cell: Cell | None) -> str:
    """`5.53 (5.52, +0.01)`, `0.29‡ (0.29, 0)`, `*5.52*` or a dash."""
    if cell is None:
        return ABSENT
    if cell.how == "printed" and cell.published is not None:
        return f"*{_printed(cell)}*"
    ours = fixed(cell.ours, cell.places) + mark(cell)
    if cell.published is None:
        return ours
    return f"{ours} ({_printed(cell)}, {_difference(cell)})"


def _printed(cell: Cell) -> str:
    """The printed value, which is a number or `>` and a number."""
    return cell.published.text.replace(">", "&gt;") if cell.published else ABSENT


def mark(cell: Cell) -> str:
    """‡ for what follows from geometry, † for what was measured on another text."""
    if cell.how == "geometry":
        return "‡"
    text = cell.point.setting.text if cell.point else ""
    return "†" if cell.how == "measured" and text not in ("", "wikitext2") else ""


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return ABSENT
    rounded = round(cell.difference, cell.places)
    return signed(rounded if rounded else 0.0, cell.places)


def latex(exhibit: Exhibit, content: Made) -> str:
    """The sheets as LaTeX tables with booktabs."""
    parts = []
    for sheet in content.sheets:
        header = ["", *(tex(f"{c} (twin)" if t else c) for c, t in _columns(sheet))]
        rows = [
            [rf"\emph{{{tex(line.label)}}}", *[""] * len(sheet.columns)]
            if not line.cells
            else [tex(line.label), *map(_cell_latex, line.cells)]
            for line in sheet.lines
        ]
        lines = [
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{tex(f'{label(exhibit)}. Ours (printed, difference)')}}}",
            rf"\label{{tab:{exhibit.name}}}",
            *tabular(header, rows, "l" + "r" * len(sheet.columns)),
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "% needs the package booktabs\n\n" + "\n\n".join(parts) + "\n"


def _cell_latex(cell: Cell | None) -> str:
    if cell is None:
        return tex(ABSENT)
    if cell.how == "printed" and cell.published is not None:
        return rf"\emph{{{tex(cell.published.text)}}}"
    ours = tex(fixed(cell.ours, cell.places))
    ours += {"‡": r"\textdaggerdbl{}", "†": r"\textdagger{}"}.get(mark(cell), "")
    if cell.published is None:
        return ours
    return f"{ours} ({tex(cell.published.text)}, {tex(_difference(cell))})"


def numbers(exhibit: Exhibit, content: Made) -> str:
    """Every number of an exhibit as CSV, one a line, with where it comes from."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for sheet, line, column, cell in content.cells():
        writer.writerow(
            {
                "exhibit": exhibit.name,
                "part": sheet.title,
                "row": line.label,
                "column": column,
                "how": cell.how,
                "ours": _number(cell.ours),
                "published": cell.published.text if cell.published else "",
                "difference": _number(cell.difference),
                "point_key": cell.point.point_key if cell.point else "",
            }
        )
    for panel in content.panels:
        for curve in panel.curves:
            ours = "published" if curve.how == "printed" else "ours"
            for x, y in zip(curve.xs, curve.ys, strict=True):
                row = {"exhibit": exhibit.name, "part": panel.title, "row": curve.name}
                row |= {"column": panel.y, "x": _number(x), "how": curve.how, ours: _number(y)}
                writer.writerow(row)
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"
