"""The commands that read finished runs: report and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Formats = Annotated[
    str, typer.Option("--format", help="html, md, csv, parquet, latex, pdf, svg, json; by commas.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands on the command line."""
    app.command()(report)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/demo.")],
    format_: Formats = "md,html",
) -> None:
    """Write the report of a run again, in the formats that are asked for."""
    import reports

    formats = [name.strip() for name in format_.split(",") if name.strip()]
    for path in dict.fromkeys(reports.build(folder, formats).values()):
        typer.echo(str(path))
