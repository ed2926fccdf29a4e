"""The commands that read finished runs: report and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.errors import InputError

Formats = Annotated[
    str, typer.Option("--format", help="html, md, csv, parquet, latex, pdf, svg, json; by commas.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands on the command line."""
    app.command()(report)


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folder of a run; several for --paper.", metavar="RUN...")
    ],
    format_: Formats = "md,html",
    paper: Annotated[
        str | None,
        typer.Option(help="Draw tables and figures of the paper: table2, figure8, …, or all."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --paper: folder (RUN/paper).")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="With --paper: a page about all that was drawn.")
    ] = None,
) -> None:
    """Write the report of a run again, in the formats that are asked for."""
    if paper is not None:
        from sweep.paper import exhibits

        written = exhibits(folders, _names(paper), out, summary)
    else:
        import reports

        if len(folders) > 1 or out or summary:
            raise InputError("several runs, --out and --summary go with --paper")
        written = list(reports.build(folders[0], _names(format_)).values())
    for path in dict.fromkeys(written):
        typer.echo(str(path))


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]
