"""From a run folder to its report: `report.md`, `report.html` and `figures/`."""

from __future__ import annotations

import os
from pathlib import Path

from reports.run import load


def build(run_dir: str | os.PathLike[str]) -> dict[str, Path]:
    """Write the report of the run in `run_dir`; returns the paths of `markdown` and `html`.

    Reads `results.parquet`, and `plan.json` and `provenance.json` where they exist. Files appear
    whole or not at all. Raises ReportError when there is no readable results table.
    """
    from reports import figures, html, markdown

    folder = Path(run_dir)
    run = load(folder)
    drawn = figures.draw(run, folder / "figures")
    return {
        "markdown": write(folder / "report.md", markdown.render(run, drawn)),
        "html": write(folder / "report.html", html.render(run)),
    }


def write(path: Path, content: str) -> Path:
    """Write `content` under a temporary name and rename it to `path`."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
    return path
