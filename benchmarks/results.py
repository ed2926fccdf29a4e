"""benchmarks/RESULTS.md: one section for each part, replaced when that part is measured again."""

from __future__ import annotations

import os
import platform
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measurements

Written by `make bench`, each part by `python -m benchmarks` and its name (kernels, reads,
evaluation, gpu, coverage, certainty, search, harness, planning, report). Measure again before you
rely on a figure.
"""


def write_part(name: str, text: str, path: Path = RESULTS, head: str = _HEAD) -> Path:
    """Put the text of a part in its place, between its two comments; other parts stay."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    page = path.read_text(encoding="utf-8") if path.exists() else head
    before, opening, rest = page.partition(begin)
    after = rest.partition(end)[2] if opening else ""
    if not opening:
        before = before.rstrip("\n") + "\n\n"
    path.write_text(f"{before}{begin}{text.strip()}\n{end}{after}", encoding="utf-8")
    return path


def machine() -> str:
    """The processor, its cores, and how busy the machine is, in one line."""
    load = os.getloadavg()[0]
    return f"{_processor()}, {os.cpu_count()} cores, load {load:.1f}, Python " + (
        platform.python_version()
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *rows])
