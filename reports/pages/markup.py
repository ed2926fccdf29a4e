"""Markdown tables and lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.pages.escape import markdown as md


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: str = "") -> str:
    """A Markdown table; `numeric` has an `r` for each column that is set to the right."""
    ends = [
        ("---:" if k < len(numeric) and numeric[k] == "r" else "---") for k in range(len(header))
    ]
    lines = [header, ends, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(lines: Iterable[object]) -> str:
    """A list of escaped lines."""
    return "\n".join(f"- {md(line)}" for line in lines)
