"""From a run folder to its report: pages, tables and figures in the formats that are asked for."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from reports.reading.run import Run, load
from reports.results import ReportError, read_table

DEFAULT_FORMATS = ("md", "html")
FORMATS = ("html", "md", "csv", "parquet", "latex", "pdf", "svg", "json")


def build(
    run_dir: str | os.PathLike[str], formats: Iterable[str] = DEFAULT_FORMATS
) -> dict[str, Path]:
    """Write the report of the run in `run_dir`; returns what was written, by name.

    `md` and `html` are named `markdown` and `html` there, the figures of `svg` and `pdf` by their
    folder. Reads `results.parquet`, and `plan.json` and `provenance.json` where they exist. Files
    appear whole or not at all. Raises ReportError when there is no readable results table, or for
    an unknown format.
    """
    folder, names = Path(run_dir), check_formats(formats)
    run = load(folder)
    written: dict[str, Path] = {}
    for name in names:
        written |= _WRITERS[name](run, folder)
    return written


def check_formats(formats: Iterable[str]) -> list[str]:
    """The formats without repeats, in the order of writing; ReportError for an unknown one."""
    names = list(formats)
    for name in names:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ReportError(f"unknown format {name!r}{hint} (allowed: {', '.join(FORMATS)})")
    return [name for name in _WRITERS if name in names]


def _markdown(run: Run, folder: Path) -> dict[str, Path]:
    from reports.pages import figures, markdown

    drawn = figures.draw(run, folder / "figures")
    return {"markdown": write(folder / "report.md", markdown.render(run, drawn))}


def _html(run: Run, folder: Path) -> dict[str, Path]:
    from reports.pages import html

    return {"html": write(folder / "report.html", html.render(run))}


def _latex(run: Run, folder: Path) -> dict[str, Path]:
    from reports.pages import latex

    return {"latex": write(folder / "report.tex", latex.render(run))}


def _json(run: Run, folder: Path) -> dict[str, Path]:
    from reports.pages import json_report

    return {"json": write(folder / "report.json", json_report.render(run))}


def _csv(run: Run, folder: Path) -> dict[str, Path]:
    """The table without the bulky counts, as a run writes it."""
    import pyarrow as pa
    from pyarrow import csv

    table = read_table(folder / "results.parquet")
    columns = [name for name in table.column_names if name != "reads"]
    sink = pa.BufferOutputStream()
    csv.write_csv(table.select(columns), sink)
    return {"csv": write(folder / "results.csv", sink.getvalue().to_pybytes().decode())}


def _parquet(run: Run, folder: Path) -> dict[str, Path]:
    """The table that everything is made from: it is there already."""
    return {"parquet": folder / "results.parquet"}


def _figures(*suffixes: str) -> Callable[[Run, Path], dict[str, Path]]:
    def draw(run: Run, folder: Path) -> dict[str, Path]:
        from reports.pages import figures

        figures.draw(run, folder / "figures", suffixes)
        return dict.fromkeys(suffixes, folder / "figures")

    return draw


_WRITERS: dict[str, Callable[[Run, Path], dict[str, Path]]] = {
    "md": _markdown,
    "html": _html,
    "csv": _csv,
    "parquet": _parquet,
    "latex": _latex,
    "pdf": _figures("pdf"),
    "svg": _figures("svg"),
    "json": _json,
}


def write(path: Path, content: str) -> Path:
    """Write `content` under a temporary name and rename it to `path`."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(content, encoding="utf-8", newline="")
    unfinished.replace(path)
    return path
