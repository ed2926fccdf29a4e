"""Sets of tasks, one after another, through one executor into one open store.

A sweep knows all its points beforehand; a search learns from each set which one to run next. Both
have the same plan, keys and store, so a search finds what a sweep has run, and the reverse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from sweep import api
from sweep.errors import SweepError
from sweep.execution.driver import Run
from sweep.execution.executor import Executor
from sweep.execution.executors import open_executor
from sweep.execution.missing import missing
from sweep.execution.resources import check_feasible, needs_of
from sweep.execution.schedule import ranks
from sweep.plan.materials import Materials
from sweep.plan.planner import Plan, PlannedPoint
from sweep.results import table
from sweep.spec.entries import Sweep
from sweep.store.store import Store
from sweep.tasks.run import Record, Task

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console


class StoppedError(SweepError):
    """A signal asked for a stop; what has ended is in the store."""

    exit_code = 130


class Session:
    """The one writer of a store while it is entered; workers start with the first task."""

    def __init__(self, sweep: Sweep, options: api.Options, console: Console) -> None:
        self.sweep = sweep
        self.options = options
        self.console = console
        self.store = Store(options.store_folder)
        self.deadline = options.deadline
        self.ran: Counter[str] = Counter()
        """Tasks that were run, by kind, and the tokens of the evaluations among them."""
        self._executor: Executor | None = None

    def __enter__(self) -> Session:
        self.store.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._executor is not None:
                self._executor.close()
        finally:
            self.store.__exit__(*error)

    def run(self, plan: Plan) -> None:
        """Run what the store lacks of a plan. Raises StoppedError after SIGINT or SIGTERM."""
        todo = missing(plan, self.store, self.options.retry_failed)
        if not todo:
            return
        executor = self._opened()
        watcher = _Watcher(self.console, self.ran)
        needs = needs_of(self.sweep, gpus=executor.resources().gpus)
        run = Run(plan, todo, self.store, executor, needs, watcher)
        run.keep_traces, run.deadline = self.sweep.keep_traces, self.deadline
        run.ranks = ranks(plan, todo, self.sweep.priority)
        run.execute()
        if run.stop_signal:
            raise StoppedError(f"stopped by {run.stop_signal}; run the same command again to go on")

    def _opened(self) -> Executor:
        if self._executor is None:
            executor = open_executor(self.options)
            self._executor = executor
            have = executor.resources()
            check_feasible(needs_of(self.sweep, gpus=have.gpus), have, executor.where)
        return self._executor

    def table(self, points: Iterable[PlannedPoint], materials: Materials) -> pa.Table:
        """The rows of points, or of their slices."""
        return table.build(Plan(points=list(points)), self.store, materials)

    def rows(self, points: Iterable[PlannedPoint], materials: Materials) -> list[dict[str, Any]]:
        """`table` as plain rows, without the bulky counts."""
        return self.table(points, materials).drop_columns(["reads"]).to_pylist()


class _Watcher:
    """Counts what is run; a failure is said at once."""

    def __init__(self, console: Console, ran: Counter[str]) -> None:
        self.console, self.ran = console, ran

    def started(self, task: Task) -> None:
        pass

    def ended(self, record: Record) -> None:
        self.ran[record.kind] += 1
        if record.kind == "evaluate":
            self.ran["tokens"] += record.result.get("tokens", 0)
        if record.status == "failed":
            self.console.print(Text(f"failed: {record.label}: {record.error}", style="red"))

    def dropped(self, task: Task) -> None:
        pass

    def tick(self) -> None:
        pass


def shards(planned: PlannedPoint, stop: int, start: int = 0) -> PlannedPoint:
    """The point as if its text had only these shards: the same tasks, fewer of them."""
    return replace(
        planned,
        evaluate=planned.evaluate[start:stop],
        dense=planned.dense[start:stop],
        simulate=planned.simulate[start:stop],
    )


def only(plan: Plan, points: Iterable[PlannedPoint]) -> Plan:
    """The part of a plan that answers some of its points, or slices of them."""
    made = Plan(points=list(points), notes=plan.notes)
    for point in made.points:
        for key in point.keys:
            _add(plan, made, key)
    return made


def _add(plan: Plan, made: Plan, key: str) -> None:
    """A task after the ones that it needs."""
    if key not in made.tasks:
        for needed in plan.tasks[key].needs:
            _add(plan, made, needed)
        made.tasks[key] = plan.tasks[key]
