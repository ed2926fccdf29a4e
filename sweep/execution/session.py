"""The only way to run a plan: one open store, one executor, and the driver between them.

A sweep knows all its points beforehand; a search learns from each set of tasks which one to run
next. Both have the same plan, keys and store, so a search finds what a sweep has run, and the
reverse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from sweep.errors import SweepError
from sweep.execution import gpus
from sweep.execution.driver import Driver, Watcher
from sweep.execution.executor import Executor, InProcessExecutor
from sweep.execution.missing import missing
from sweep.execution.progress import failure_line
from sweep.execution.resources import Resources, check_feasible, needs_of
from sweep.execution.schedule import ranks
from sweep.plan.plan import Plan
from sweep.plan.task_patterns import selected
from sweep.spec.entries import Sweep
from sweep.store.store import Store
from sweep.tasks.task import Record, Task

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.options import Options


class StoppedError(SweepError):
    """A signal asked for a stop; what has ended is in the store."""

    exit_code = 130


class Session:
    """The one writer of a store while it is entered; workers start with the first task."""

    def __init__(self, sweep: Sweep, options: Options, console: Console) -> None:
        self.sweep = sweep
        self.options = options
        self.console = console
        self.store = Store(options.store_folder)
        self.deadline = options.deadline
        self.ran: Counter[str] = Counter()
        """Tasks that `run_all` has run, by kind, and the tokens of the evaluations among them."""
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

    def missing(self, plan: Plan) -> dict[str, str]:
        """The tasks of a plan that are to be run, with the reason of each; needed ones first."""
        todo = missing(plan, self.store, self.options.retry_failed)
        return selected(plan, todo, self.options.only) if self.options.only else todo

    def run(self, plan: Plan, todo: Mapping[str, str], watcher: Watcher) -> str:
        """Run these tasks of a plan; returns what stopped the run early, or nothing."""
        executor = self.opened()
        changed = any("weights" in task.payload.get("inputs", {}) for task in plan.tasks.values())
        needs = self._needs(executor, changed)
        driver = Driver(plan, dict(todo), self.store, executor, needs, watcher)
        # With --only, tasks that are not run now may need a trace later.
        every = self.sweep.keep_traces or self.options.only
        driver.traces_bytes = math.inf if every else self.sweep.traces_gb * 1e9
        driver.fail_fast, driver.deadline = self.options.fail_fast, self.deadline
        driver.ranks = ranks(plan, todo, self.sweep.priority)
        driver.execute()
        return driver.stopped_by

    def run_all(self, plan: Plan) -> None:
        """Run what the store lacks of a plan. Raises StoppedError after SIGINT or SIGTERM."""
        todo = self.missing(plan)
        stopped_by = self.run(plan, todo, _Announcer(self.console, self.ran)) if todo else ""
        if stopped_by:
            raise StoppedError(f"stopped by {stopped_by}; run the same command again to go on")

    def opened(self) -> Executor:
        """The executor, started with the first call. Raises ResourceError where the sweep needs
        more than there is."""
        if self._executor is None:
            self._executor = open_executor(self.options)
            self._needs(self._executor)
        return self._executor

    def _needs(self, executor: Executor, changed: bool = False) -> dict[str, Resources]:
        """What each kind of task asks for. Raises ResourceError where that is more than there is;
        `changed`: where weights that a task brings lie beside the model's own."""
        have = executor.resources()
        needs = needs_of(self.sweep, gpus.wanted(self.sweep, have, changed), have)
        check_feasible(needs, have, executor.where)
        gpus.check_room(self.sweep, needs["evaluate"].gpus, have, executor.where, changed)
        return needs


def open_executor(options: Options) -> Executor:
    """This process for no workers, Ray otherwise. Raises ResourceError."""
    if options.workers == 0:
        return InProcessExecutor()
    from sweep.execution.ray_executor import RayExecutor

    return RayExecutor(options.address, options.workers)


class _Announcer:
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
            self.console.print(Text(failure_line(record), style="red"))

    def dropped(self, task: Task) -> None:
        pass

    def tick(self) -> None:
        pass
