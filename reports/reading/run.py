"""A run folder as it is read for a report: the table, the plan and the provenance.

Plan and provenance may be absent or damaged: that is told in `problems`, and the report is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.findings import certainty
from reports.findings.budgets import Budget, parse_all
from reports.findings.cache_aware import Comparison, Finding, compare, findings, sentences
from reports.findings.certified import Statement
from reports.findings.costs import measured_kl
from reports.findings.decisions import Decision, decide_points
from reports.findings.points import Point, Setting, by_setting, points, varying
from reports.findings.policies import PolicyRow, compare_policies, compared_series, headline
from reports.reading import certified, stopwatch, study, timeline
from reports.reading.stopwatch import Replayed
from reports.reading.timeline import Span
from reports.results import ReportError, Row, accuracy_tasks, read_table, rows

if TYPE_CHECKING:
    import pyarrow as pa


ATTENTION_GROUPS = ("attn-input", "attn-output")


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a report says, before it is laid out."""

    title: str
    rows: Sequence[Row]
    reads: Sequence[str]  # the counts of each row as JSON, empty where there are none
    points: Sequence[Point]
    settings: Sequence[Setting]
    told_apart: tuple[str, ...]  # fields of a setting that differ within the run
    budgets: tuple[Budget, ...]
    decisions: Sequence[Decision]
    headline: Sequence[Decision]
    comparisons: Sequence[Comparison]
    findings: Sequence[Finding]
    sentences: Sequence[str]
    policies: Sequence[PolicyRow]
    accuracy_tasks: tuple[str, ...]
    plan: Mapping[str, Any]
    provenance: Mapping[str, Any]
    problems: tuple[str, ...]
    tasks: Sequence[Span] = ()
    study: Mapping[str, Any] | None = None
    stopwatch: Sequence[Replayed] = ()
    verdict: str = ""  # of the stopwatch
    statement: Statement | None = None  # what is certain, where that was asked for

    @property
    def notes(self) -> list[str]:
        """Caveats that the run itself recorded, and those of what was chosen."""
        written = self.provenance.get("notes") or []
        recorded = [str(note) for note in written] if isinstance(written, list) else [str(written)]
        noted = [*recorded, *_dense_starts(self.settings)]
        if self.statement is not None:  # which knows of all choices, and of what they need
            return noted
        chosen = certainty.chosen_among(self.points)
        return [*noted, *chosen, *certainty.outlook(self.headline, self.evaluated_s)]

    @property
    def has_distances(self) -> bool:
        """Whether KL and flips were measured for a pruned point."""
        return any(map(measured_kl, self.points))

    @property
    def prunes_attention(self) -> bool:
        """Whether a point prunes attention, so that the density of the MLP is not all there is."""
        return any(f'"{name}"' in counts for counts in self.reads for name in ATTENTION_GROUPS)

    @property
    def evaluated_s(self) -> float:
        """Seconds that the evaluations took, those of several workers at a time counted once."""
        spans = [span for span in self.tasks if span.kind == "evaluate"]
        return sum(span.seconds for span in spans) / max(1, len({span.worker for span in spans}))

    def count(self, status: str) -> int:
        return sum(p.status == status for p in self.points)

    def of_weights(self) -> dict[tuple[str, str], list[Setting]]:
        """Settings by model and quantisation."""
        groups: dict[tuple[str, str], list[Setting]] = {}
        for setting in self.settings:
            groups.setdefault(setting.weights, []).append(setting)
        return groups

    def decided(self, setting: Setting) -> list[Decision]:
        return [d for d in self.decisions if d.setting == setting]


def load(run_dir: Path, chosen_budgets: Sequence[Budget | float | str] = ()) -> Run:
    """The run in `run_dir`, for the budgets that are asked for, or its own.

    Raises ReportError without a readable results table, or for a budget that cannot be read.
    """
    table = read_table(run_dir / "results.parquet")
    plan, plan_problem = _read_json(run_dir / "plan.json")
    provenance, provenance_problem = _read_json(run_dir / "provenance.json")
    listed = rows(table)
    budgets, budget_problem = (parse_all(chosen_budgets), "") if chosen_budgets else _budgets(plan)
    problems = tuple(p for p in (plan_problem, provenance_problem, budget_problem) if p)
    names = {str(row["sweep"]) for row in listed if row.get("sweep")}
    title = str(plan.get("sweep") or ", ".join(sorted(names)) or run_dir.name)
    tasks = accuracy_tasks(table.column_names)
    reads = _reads(table)
    run = assemble(title, listed, budgets, plan, provenance, problems, tasks, reads)
    lines, verdict = stopwatch.read(run_dir)
    statement, certified_problem = certified.read(run_dir, run.points)
    cells = statement.cells if statement else {}
    return replace(
        run,
        statement=statement,
        decisions=[replace(d, certified=cells.get((d.setting, d.budget))) for d in run.decisions],
        problems=(*run.problems, *([certified_problem] if certified_problem else [])),
        tasks=timeline.read(run_dir, plan),
        study=study.read(run_dir),
        stopwatch=lines,
        verdict=verdict,
    )


def assemble(
    title: str,
    listed: Sequence[Row],
    budgets: tuple[Budget, ...],
    plan: Mapping[str, Any],
    provenance: Mapping[str, Any],
    problems: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (),
    reads: Sequence[str] = (),
) -> Run:
    """A Run from rows and documents that are in memory."""
    members = points(listed)
    settings = list(by_setting(members))
    decisions = decide_points(members, budgets)
    shown = headline(decisions)
    comparisons = compare(members)
    limits = {d.setting: d.limit for d in shown}
    at = shown[0].budget if shown else None
    return Run(
        title=title,
        rows=listed,
        reads=reads or [""] * len(listed),
        points=members,
        settings=settings,
        told_apart=varying(settings),
        budgets=budgets,
        decisions=decisions,
        headline=shown,
        comparisons=comparisons,
        findings=findings(comparisons),
        sentences=sentences(comparisons),
        policies=compare_policies(members, limits, compared_series(members), at),
        accuracy_tasks=tasks,
        plan=plan,
        provenance=provenance,
        problems=problems,
    )


def _dense_starts(settings: Sequence[Setting]) -> list[str]:
    """That windows begin dense, for figures of which that is true."""
    starts = sorted({s.dense_tokens for s in settings if s.dense_tokens})
    return [
        f"The first {tokens:g} tokens of each window are left dense, and counted in every figure:"
        " losses are smaller than where a method is active from the first token on."
        for tokens in starts
    ]


def _reads(table: pa.Table) -> list[str]:
    """The bulky column of counts, which `rows` leaves out."""
    if "reads" not in table.column_names:
        return [""] * table.num_rows
    return [written or "" for written in table.column("reads").to_pylist()]


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        return {}, f"{path.name} is not in the run folder, so what it tells is left out."
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        return {}, f"{path.name} cannot be read ({error}), so what it tells is left out."
    if not isinstance(document, dict):
        return {}, f"{path.name} holds no mapping, so what it tells is left out."
    return document, ""


def _budgets(plan: Mapping[str, Any]) -> tuple[tuple[Budget, ...], str]:
    written = plan.get("budgets") or ()
    try:
        return parse_all(written), ""
    except (ReportError, TypeError) as error:
        return parse_all(()), f"plan.json: {error}; the usual budgets are used."
