"""The commands that read finished runs: report and compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sweep.errors import InputError
from sweep.messages import nearest

Formats = Annotated[
    str, typer.Option("--format", help="html, md, csv, parquet, latex, pdf, svg, json; by commas.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands on the command line."""
    app.command()(report)
    app.command()(compare)


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folder of a run; several for --paper.", metavar="RUN...")
    ],
    format_: Formats = "md,html",
    paper: Annotated[
        str | None,
        typer.Option(
            help="Draw tables and figures of the paper: table2, figure8, …, all; or field."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --paper: folder (RUN/paper).")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="With --paper: a page about all that was drawn.")
    ] = None,
) -> None:
    """Write the report of a run again, in the formats that are asked for."""
    if paper is not None:
        from sweep.results.paper import exhibits

        written = exhibits(folders, _names(paper), out, summary)
    else:
        import reports

        if len(folders) > 1 or out or summary:
            raise InputError("several runs, --out and --summary go with --paper")
        written = list(reports.build(folders[0], _names(format_)).values())
    for path in dict.fromkeys(written):
        typer.echo(str(path))


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Runs or stores: the old one, then new ones.", metavar="OLD NEW..."),
    ],
    fail_if: Annotated[
        list[str],
        typer.Option("--fail-if", help="Exit 1 if 'tokens_per_s < -2%', 'best@0.2 < -1%', …"),
    ] = [],  # noqa: B006  (typer's way of saying a repeatable option)
    format_: Annotated[
        str | None,
        typer.Option("--format", help="text, md, html or json (text in a terminal, else md)."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """Say what changed between runs, and fail where that is worse than allowed."""
    from reports.compare.pages import WRITERS
    from reports.report import write
    from sweep.results.compare import run as compared

    kind = format_ or ("text" if output is None and sys.stdout.isatty() else "md")
    if kind not in WRITERS:
        raise InputError(f"unknown format {kind!r}{nearest(kind, WRITERS)}")
    comparisons = compared(runs, fail_if)
    text = WRITERS[kind](comparisons)
    if output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(str(write(output, text)))
    hits = [hit for _, verdicts in comparisons for verdict in verdicts for hit in verdict.hits]
    for hit in hits:
        typer.echo(f"regression: {hit.text}", err=True)
    raise typer.Exit(1 if hits else 0)


def _names(joined: str) -> list[str]:
    return [name.strip() for name in joined.split(",") if name.strip()]
