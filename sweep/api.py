"""A sweep from its spec to its report, as functions: what the command line and scripts call."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.downstream.merge import FILE as ACCURACY
from sweep.errors import InputError
from sweep.execution import gpus
from sweep.execution.ray_head import check_reachable
from sweep.execution.resources import check_feasible, check_out, local_resources, needs_of
from sweep.execution.session import Session
from sweep.files.atomic import write_json
from sweep.options import Options
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.results import reuse
from sweep.results.folder import CERTAINTY, LIVE, cleared, plan_summary, provenance_of
from sweep.spec.entries import Sweep
from sweep.store.store import Store
from sweep.store.traces import trace_bytes

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from sweep.certainty.certification import Certification


@dataclass(slots=True)
class Finished:
    """What came of a run."""

    table: pa.Table
    out: Path
    stopped_by: str = ""
    failed: list[str] = field(default_factory=list)
    lost: int = 0
    """How many of the failed the machine failed, not an error of their own."""
    ran: int = 0
    seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)
    traces: str = ""
    """What the kept traces take on the disk, and how to be rid of them; empty where none are."""
    certain: str = ""
    """How many choices are certain, where that was asked for."""

    @property
    def exit_code(self) -> int:
        if self.stopped_by and self.stopped_by != "--fail-fast":
            return 130
        return 1 if self.failed else 0


def run(sweep: Sweep, options: Options, console: Console) -> Finished:
    """Run what is missing of a sweep and write its table and report.

    Raises InputError or ResourceError before anything is written.
    """
    started, began = time.time(), time.monotonic()
    check_out(options.out)
    needs = needs_of(sweep)
    address = options.address or os.environ.get("RAY_ADDRESS")
    if address is None:
        have = local_resources(options.workers)
        check_feasible(needs, have, "this machine")
        asked = needs_of(sweep, gpus.wanted(sweep, have), have)["evaluate"].gpus
        gpus.check_room(sweep, asked, have, "this machine")
    elif options.workers != 0:
        check_reachable(address)  # before models are fetched and texts are read
    certified = _certification(sweep, options, console)
    planned = certified.part() if certified else None
    planned = planned or plan_sweep(sweep, True, console.print, options.points)
    with Session(sweep, options, console) as session:
        store = session.store
        options.out.mkdir(parents=True, exist_ok=True)
        store.damaged += cleared(options.out)
        (options.out / CERTAINTY).unlink(missing_ok=True)
        planned, ran, stopped_by = _run_missing(planned, certified, session)
        (options.out / LIVE).unlink(missing_ok=True)
        said = None if stopped_by else certified
        finished = _finish(planned, store, options, ran, said)
        about = provenance_of(planned, store, ran, started)
        if certified is None:
            about["table"] = reuse.seal(planned, store, options.out)
        write_json(options.out / "provenance.json", about)
    finished.stopped_by, finished.ran = stopped_by, len(ran)
    finished.seconds = time.monotonic() - began
    finished.traces = _kept_traces(sweep, options)
    if options.report and not stopped_by:
        import reports

        reports.build(options.out)
    return finished


def _certification(sweep: Sweep, options: Options, console: Console) -> Certification | None:
    if not options.until_certain:
        return None
    if options.points or options.only:
        raise InputError(
            "--until-certain decides a table as a whole, so that no point or task can be left out:"
            " give no --point and no --only with it"
        )
    from sweep.certainty.certification import Certification
    from sweep.certainty.start import begin

    return Certification(begin(sweep, console.print))


def _run_missing(
    planned: SweepPlan, certified: Certification | None, session: Session
) -> tuple[SweepPlan, dict[str, str], str]:
    """Run what the store lacks, of a certification from look to look; returns what the plan has
    become, the tasks that were to run, and what stopped them early, or nothing."""
    ran: dict[str, str] = {}
    store, options = session.store, session.options
    while True:
        missing = session.missing(planned.plan).items()
        todo = {key: reason for key, reason in missing if key not in ran}
        ran |= todo
        write_json(
            options.out / "plan.json",
            plan_summary(planned, ran) | {"store": str(options.store_folder.resolve())},
        )
        stopped_by = _execute(planned, todo, session) if todo else ""
        if stopped_by or certified is None:
            return planned, ran, stopped_by
        if not certified.advance(_table(planned, store), store):
            return planned, ran, ""
        planned = certified.part()


def _kept_traces(sweep: Sweep, options: Options) -> str:
    taken = trace_bytes(options.store_folder)
    if not taken:
        return ""
    every = sweep.keep_traces or options.only
    limit = "" if every else f" of at most {sweep.traces_gb:g} GB (traces_gb)"
    return (
        f"masks kept for other policies and DRAM sizes: {taken / 1e9:.2f} GB{limit}; "
        f"`sweep gc {options.store_folder} --traces` drops them"
    )


def _execute(planned: SweepPlan, todo: dict[str, str], session: Session) -> str:
    """Run the tasks under a progress display; returns what stopped the run early, or nothing."""
    from sweep.execution.live import Live
    from sweep.execution.progress import Progress, Tally, past_seconds

    store, out = session.store, session.options.out
    session.opened()  # what Ray says as it starts comes before the display
    totals = Counter(planned.plan.tasks[key].kind for key in todo)
    tally = Tally(totals, past_seconds(store.records.values()))
    with Progress(session.console, tally) as progress:
        watcher = Live(progress, out / LIVE, lambda: _write_table(planned, store, out))
        return session.run(planned.plan, todo, watcher)


def _table(planned: SweepPlan, store: Store) -> pa.Table:
    from sweep.results import table

    return table.build(planned.plan, store, planned.materials)


def _write_table(
    planned: SweepPlan, store: Store, out: Path, certified: Certification | None = None
) -> pa.Table:
    """The table, and what is certain of it."""
    from sweep.results import table
    from sweep.results.written import files

    rows = _table(planned, store)
    if certified is not None:
        from sweep.certainty import statement

        rows = statement.marked(certified, rows)
        write_json(out / CERTAINTY, statement.document(certified))
    rows = files.write(rows, out)
    if planned.sweep.tasks:
        write_json(out / ACCURACY, table.accuracies(planned.plan, store, planned.materials))
    return rows


def _finish(
    planned: SweepPlan,
    store: Store,
    options: Options,
    ran: dict[str, str],
    certified: Certification | None,
) -> Finished:
    fresh = ran or certified is not None
    table = None if fresh else reuse.kept(planned, store, options.out)
    if table is None:
        table = _write_table(planned, store, options.out, certified)
    records = [store.records.get(key) for key in dict.fromkeys((*planned.plan.tasks, *ran))]
    failed = [r for r in records if r is not None and r.status == "failed"]
    _write_logs(failed, options.out)
    errors = [f"{record.label}: {record.error} (log: {record.key})" for record in failed]
    lost = sum(record.infrastructure for record in failed)
    certain = certified.summary() if certified else ""
    return Finished(
        table, options.out, failed=errors, lost=lost, damaged=store.damaged, certain=certain
    )


def _write_logs(failed: list[Any], out: Path) -> None:
    for record in failed:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        (out / "logs" / f"{record.key}.log").write_text(record.log or record.error)
