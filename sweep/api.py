"""A sweep from its spec to its report, as functions: what the command line and scripts call."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.downstream.merge import FILE as ACCURACY
from sweep.execution.missing import missing
from sweep.execution.resources import check_feasible, check_out, local_resources, needs_of
from sweep.execution.schedule import ranks
from sweep.files.atomic import write_json
from sweep.options import Options as Options
from sweep.plan.patterns import selected
from sweep.plan.sweep_plan import Planned as Planned
from sweep.plan.sweep_plan import make_plan as make_plan
from sweep.results import reuse as kept_table
from sweep.results.folder import LIVE, cleared, plan_summary, provenance_of
from sweep.spec.entries import Sweep
from sweep.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console


@dataclass(slots=True)
class Finished:
    """What came of a run."""

    table: pa.Table
    out: Path
    stop_signal: str = ""
    failed: list[str] = field(default_factory=list)
    lost: int = 0
    """How many of the failed the machine failed, not an error of their own."""
    ran: int = 0
    seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        if self.stop_signal and self.stop_signal != "--fail-fast":
            return 130
        return 1 if self.failed else 0


def run(sweep: Sweep, options: Options, console: Console) -> Finished:
    """Run what is missing of a sweep and write its table and report.

    Raises InputError or ResourceError before anything is written.
    """
    started, began = time.time(), time.monotonic()
    check_out(options.out)
    needs = needs_of(sweep)
    if options.address is None and "RAY_ADDRESS" not in os.environ:
        check_feasible(needs, local_resources(options.workers), "this machine")
    planned = make_plan(sweep, fetch=True, notify=console.print, points=options.points)
    with Store(options.store_folder) as store:
        todo = missing(planned.plan, store, options.retry_failed)
        if options.only:
            todo = selected(planned.plan, todo, options.only)
        options.out.mkdir(parents=True, exist_ok=True)
        store.damaged += cleared(options.out)
        write_json(
            options.out / "plan.json",
            plan_summary(planned, todo) | {"store": str(options.store_folder.resolve())},
        )
        stopped = _execute(planned, todo, store, options, console) if todo else ""
        (options.out / LIVE).unlink(missing_ok=True)
        done = _finish(planned, store, options, changed=bool(todo))
        about = provenance_of(planned, store, todo, started)
        about["table"] = kept_table.seal(planned, store, options.out)
        write_json(options.out / "provenance.json", about)
    done.stop_signal, done.ran, done.seconds = stopped, len(todo), time.monotonic() - began
    if options.report and not done.stop_signal:
        import reports

        reports.build(options.out)
    return done


def _execute(
    planned: Planned, todo: dict[str, str], store: Store, options: Options, console: Console
) -> str:
    """Run the tasks; returns what stopped the run early, or nothing."""
    from sweep.execution.driver import Run
    from sweep.execution.executors import open_executor
    from sweep.execution.live import Live
    from sweep.execution.progress import Progress, Tally, past_seconds

    sweep, deadline = planned.sweep, options.deadline
    executor = open_executor(options)
    try:
        have = executor.resources()
        needs = needs_of(sweep, gpus=have.gpus)
        check_feasible(needs, have, executor.where)
        totals = Counter(planned.plan.tasks[key].kind for key in todo)
        tally = Tally(totals, past_seconds(store.records.values()))
        with Progress(console, tally) as progress:
            watcher = Live(
                progress, options.out / LIVE, lambda: _write_table(planned, store, options.out)
            )
            run = Run(planned.plan, todo, store, executor, needs, watcher)
            run.keep_traces = sweep.keep_traces or bool(options.only)  # others may need them
            run.fail_fast, run.deadline = options.fail_fast, deadline
            run.ranks = ranks(planned.plan, todo, sweep.priority)
            run.execute()
        return run.stop_signal
    finally:
        executor.close()


def _write_table(planned: Planned, store: Store, out: Path) -> pa.Table:
    from sweep.results import table

    made = table.build(planned.plan, store, planned.materials)
    table.write(made, out)
    if planned.sweep.tasks:
        write_json(out / ACCURACY, table.accuracies(planned.plan, store, planned.materials))
    return made


def _finish(planned: Planned, store: Store, options: Options, changed: bool) -> Finished:
    made = None if changed else kept_table.kept(planned, store, options.out)
    if made is None:
        made = _write_table(planned, store, options.out)
    records = (store.records.get(key) for key in planned.plan.tasks)
    failed = [r for r in records if r is not None and r.status == "failed"]
    _write_logs(failed, options.out)
    errors = [f"{record.label}: {record.error} (log: {record.key})" for record in failed]
    lost = sum(record.infrastructure for record in failed)
    return Finished(made, options.out, failed=errors, lost=lost, damaged=store.damaged)


def _write_logs(failed: list[Any], out: Path) -> None:
    for record in failed:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        (out / "logs" / f"{record.key}.log").write_text(record.log or record.error)
