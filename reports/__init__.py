"""What a finished sweep means: frontiers, decisions, tables, figures and pages.

`SCHEMA` is the results table that `sweep` writes and this package reads; `build(run_dir, formats)`
writes `report.md`, `report.html`, `figures/` or other formats; `decide(table, budgets)` answers
which configuration to ship. Names are resolved late, so importing this package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.findings.budgets import Budget
    from reports.findings.decisions import Decision, decide
    from reports.report import FORMATS, build
    from reports.results import COLUMNS, SCHEMA, ReportError, empty_table, schema

__all__ = [
    "COLUMNS",
    "FORMATS",
    "SCHEMA",
    "Budget",
    "Decision",
    "ReportError",
    "build",
    "decide",
    "empty_table",
    "schema",
]

_HOMES = {
    "COLUMNS": "reports.results",
    "SCHEMA": "reports.results",
    "ReportError": "reports.results",
    "empty_table": "reports.results",
    "schema": "reports.results",
    "Budget": "reports.findings.budgets",
    "Decision": "reports.findings.decisions",
    "decide": "reports.findings.decisions",
    "FORMATS": "reports.report",
    "build": "reports.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reports' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
