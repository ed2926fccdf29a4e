"""A sweep from its spec to its report, as functions: what the command line and scripts call."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import plan as planning
from sweep import provenance
from sweep.errors import InputError
from sweep.grid import Grid, expand
from sweep.materials import Materials
from sweep.plan import Plan
from sweep.resources import Resources, check_feasible, local_resources
from sweep.shape import Sweep
from sweep.store import Store, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from sweep.executor import Executor

LIVE = ".live.json"
"""What a running driver says of itself, for `sweep status`."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a sweep is run; nothing here can change a result."""

    out: Path
    store: Path | None = None
    address: str | None = None
    workers: int | None = None
    """CPUs of the local Ray; 0 runs in this process; None takes all cores."""
    retry_failed: bool = False
    fail_fast: bool = False
    report: bool = True

    @property
    def store_folder(self) -> Path:
        return self.store or self.out


@dataclass(frozen=True, slots=True)
class Planned:
    """A sweep with its points and tasks."""

    sweep: Sweep
    grid: Grid
    plan: Plan
    materials: Materials


@dataclass(slots=True)
class Finished:
    """What came of a run."""

    table: pa.Table
    out: Path
    stop_signal: str = ""
    failed: list[str] = field(default_factory=list)
    ran: int = 0
    seconds: float = 0.0
    damaged: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        if self.stop_signal and self.stop_signal != "--fail-fast":
            return 130
        return 1 if self.failed else 0


def make_plan(sweep: Sweep, fetch: bool = False, notify: Callable[[str], None] = print) -> Planned:
    """Points and tasks of a sweep. With `fetch`, models and texts are made present first.

    Without it nothing heavy is imported, and what is not present is planned under a note.
    """
    if sweep.tasks:
        place = f"{sweep.source}: sweeps.{sweep.name}.tasks"
        raise InputError(f"{place}: downstream tasks are not run by this version; leave it empty")
    grid = expand(sweep)
    materials = Materials(sweep)
    made = planning.plan(grid.points, materials)
    if fetch:
        materials.fetch(grid.points, made.uses_calibration, notify)
        if not materials.complete:
            materials = Materials(sweep)
            made = planning.plan(grid.points, materials)
    return Planned(sweep, grid, made, materials)


def run(sweep: Sweep, options: Options, console: Console) -> Finished:
    """Run what is missing of a sweep and write its table and report.

    Raises InputError or ResourceError before anything is written.
    """
    started = time.time()
    _check_out(options.out)
    needs = _needs(sweep)
    if options.address is None and "RAY_ADDRESS" not in os.environ:
        check_feasible(needs, local_resources(options.workers), "this machine")
    planned = make_plan(sweep, fetch=True, notify=console.print)
    with Store(options.store_folder) as store:
        todo = planning.missing(planned.plan, store, options.retry_failed)
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(
            options.out / "plan.json",
            plan_summary(planned, todo) | {"store": str(options.store_folder.resolve())},
        )
        stopped = _execute(planned, todo, store, options, console) if todo else ""
        (options.out / LIVE).unlink(missing_ok=True)
        done = _finish(planned, store, options)
        write_json(options.out / "provenance.json", _provenance(planned, store, todo, started))
    done.stop_signal, done.ran, done.seconds = stopped, len(todo), time.time() - started
    if options.report and not done.stop_signal:
        import reports

        reports.build(options.out)
    return done


def _execute(
    planned: Planned, todo: dict[str, str], store: Store, options: Options, console: Console
) -> str:
    """Run the tasks; returns what stopped the run early, or nothing."""
    from sweep.driver import Run
    from sweep.live import Live
    from sweep.progress import Progress, Tally, past_seconds

    sweep = planned.sweep
    executor = _executor(options)
    try:
        have = executor.resources()
        needs = _needs(sweep, gpus=have.gpus)
        check_feasible(needs, have, executor.where)
        totals = Counter(planned.plan.tasks[key].kind for key in todo)
        tally = Tally(totals, past_seconds(store.records.values()))
        with Progress(console, tally) as progress:
            watcher = Live(
                progress, options.out / LIVE, lambda: _write_table(planned, store, options.out)
            )
            run = Run(planned.plan, todo, store, executor, needs, watcher)
            run.keep_traces, run.fail_fast = sweep.keep_traces, options.fail_fast
            run.execute()
        return run.stop_signal
    finally:
        executor.close()


def _executor(options: Options) -> Executor:
    if options.workers == 0:
        from sweep.executor import InProcessExecutor

        return InProcessExecutor()
    from sweep.ray_executor import RayExecutor

    return RayExecutor(options.address, options.workers)


def _needs(sweep: Sweep, gpus: float | None = None) -> dict[str, Resources]:
    """What each kind asks for. `gpu: auto` is one where there is one (none until that is known)."""
    asked = sweep.resources
    gpu = asked.evaluate.gpu
    if gpu is None:
        gpu = 1.0 if gpus else 0.0
    model = Resources(cpus=asked.evaluate.cpu, gpus=gpu)
    return {
        "calibrate": model,
        "transform": model,
        "train": model,
        "evaluate": model,
        "simulate": Resources(cpus=asked.simulate.cpu),
    }


def _write_table(planned: Planned, store: Store, out: Path) -> pa.Table:
    from sweep import table

    made = table.build(planned.plan, store, planned.materials)
    table.write(made, out)
    return made


def _finish(planned: Planned, store: Store, options: Options) -> Finished:
    made = _write_table(planned, store, options.out)
    records = (store.records.get(key) for key in planned.plan.tasks)
    failed = [r for r in records if r is not None and r.status == "failed"]
    _write_logs(failed, options.out)
    errors = [f"{record.label}: {record.error} (log: {record.key})" for record in failed]
    return Finished(made, options.out, failed=errors, damaged=store.damaged)


def _write_logs(failed: list[Any], out: Path) -> None:
    for record in failed:
        (out / "logs").mkdir(parents=True, exist_ok=True)
        (out / "logs" / f"{record.key}.log").write_text(record.log or record.error)


def _check_out(out: Path) -> None:
    """A relative folder of a Ray job would be lost with the job's copy of the code."""
    if "runtime_resources" in Path.cwd().parts and out.resolve().is_relative_to(Path.cwd()):
        raise InputError(
            f"--out {out} lies in the job's temporary copy of the working directory and would be"
            " lost; give an absolute folder that outlives the job"
        )


def reasons(todo: dict[str, str]) -> dict[str, int]:
    """How many tasks run for each reason, most frequent first."""
    return dict(Counter(todo.values()).most_common())


def status(folder: Path, store: Path | None = None) -> list[str]:
    """How far a run is, from its files alone: while it runs, after it ended, or died."""
    planned = _read_json(folder / "plan.json")
    kept = Store(store or Path(planned.get("store", folder)))
    lines, open_tasks = [], 0
    for kind, keys in planned["task_keys"].items():
        states = Counter(kept.records[k].status if k in kept.records else "missing" for k in keys)
        open_tasks += states["missing"]
        if keys:
            shown = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
            lines.append(f"{kind}: {shown} of {len(keys)}")
    holder = kept.holder()
    if holder:
        live = _read_json(folder / LIVE) if (folder / LIVE).exists() else {"line": "starting"}
        lines += [live["line"], *(f"  {label}" for label in live.get("running", []))]
        state = f"running ({holder})"
    else:
        state = "not running; run the same command again to go on" if open_tasks else "finished"
    return [f"{planned['sweep']}: {state}", *lines]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} is not the folder of a run: it has no {path.name}"
        ) from None
    except ValueError:
        raise InputError(f"{path} cannot be read; run the sweep again to write it anew") from None


def plan_summary(planned: Planned, todo: dict[str, str]) -> dict[str, Any]:
    """plan.json: points, tasks, what was skipped and why each task runs."""
    kinds: dict[str, list[str]] = {kind: [] for kind in planning.KINDS}
    for key, task in planned.plan.tasks.items():
        kinds[task.kind].append(key)
    return {
        "sweep": planned.sweep.name,
        "budgets": list(planned.sweep.budgets),
        "points": len(planned.plan.points),
        "tasks": planned.plan.counts(),
        "to_run": len(todo),
        "skipped": [{"reason": s.reason, "points": s.points} for s in planned.grid.skipped],
        "why": reasons(todo),
        "notes": planned.plan.notes,
        "task_keys": kinds,
    }


def _provenance(
    planned: Planned, store: Store, todo: dict[str, str], started: float
) -> dict[str, Any]:
    records = [r for key in planned.plan.tasks if (r := store.records.get(key)) is not None]
    seconds: Counter[str] = Counter()
    for record in records:
        seconds[record.kind] += record.seconds  # type: ignore[assignment]
    done = [r for r in records if r.status == "done"]
    return {
        "command": provenance.command(),
        "started": _iso(started),
        "finished": _iso(time.time()),
        "seconds": round(time.time() - started, 1),
        "git": provenance.git(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "spec": planned.sweep.model_dump(mode="json"),
        "models": planned.materials.describe_models(),
        "texts": planned.materials.describe_texts(),
        "tasks": {
            "done": sum(r.key in todo for r in done),
            "reused": sum(r.key not in todo for r in done),
            "failed": len(records) - len(done),
        },
        "seconds_by_kind": {kind: round(total, 1) for kind, total in seconds.items()},
        "notes": [
            *planned.plan.notes,
            *planned.materials.caveats(),
            *_training_notes(planned, store),
        ],
    }


def _training_notes(planned: Planned, store: Store) -> list[str]:
    """What a reader should know of the trainings: how well predictors find, what adapters gain."""
    trained = [store.done(t.key) for t in planned.plan.tasks.values() if t.kind == "train"]
    return [
        f"{record.label.removeprefix('train ')}: {text}"
        for record in trained
        if record is not None and (text := _training_note(record.result))
    ]


def _training_note(result: dict[str, Any]) -> str:
    if "recall" in result:
        return (
            f"its predictors find {result['recall']:.0%} of the units that they are to find "
            f"(recall), and {result['precision']:.0%} of those they name are right (precision); "
            f"of as many largest logits as are wanted, {result['recall_of_largest']:.0%} are"
        )
    if "validation_loss" in result:
        losses = dict(result["validation_loss"])
        best = result["best_step"]
        return (
            f"KL to the dense model {losses[0]:.4f} before training, {losses[best]:.4f} after "
            f"{best} of {result['steps']} steps, on validation windows of the calibration text"
        )
    return ""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
