"""The command line. Commands import what they need when they run, so that --help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli import reports as cli_report
from sweep.cli.arguments import (
    DEFAULT_FILE,
    Address,
    File,
    MaxHours,
    Name,
    Out,
    RetryFailed,
    RunFolder,
    Set,
    StoreDir,
    UntilCertain,
    Workers,
    console_on,
    kept_at,
    options_of,
    print_outcome,
    sweep_of,
)
from sweep.cli.search import searches
from sweep.cli.tools import tools
from sweep.errors import InputError, SweepError
from sweep.files.atomic import FULL, write_error

app = typer.Typer(
    name="sweep",
    help="Find the sparsity method, density, γ and cache policy that make a model fastest.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

OnlyPoint = Annotated[
    list[str], typer.Option("--point", help="Only this point, by its key (repeatable).")
]


@app.command()
def run(
    name: Name,
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006  (typer's way of saying a repeatable option)
    out: Out = None,
    store: StoreDir = None,
    address: Address = None,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at a failure.")] = False,
    only: Annotated[
        list[str],
        typer.Option("--only", help="Part of it: dip, kind=calibrate, model=phi* (repeatable)."),
    ] = [],  # noqa: B006
    max_hours: MaxHours = None,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    point: OnlyPoint = [],  # noqa: B006
    until_certain: UntilCertain = False,
) -> None:
    """Run what is missing of a sweep, and write its table and report."""
    from sweep import api

    sweep = sweep_of(name, file, set_)
    console = console_on()
    options = options_of(
        "-".join([name, *(key[:16] for key in point)]),
        out,
        store,
        address=address,
        workers=workers,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        report=report,
        points=tuple(point),
        max_hours=max_hours,
        only=tuple(only),
        until_certain=until_certain,
    )
    with kept_at(out):
        done = api.run(sweep, options, console)
    print_outcome(console, done, name, out)
    raise typer.Exit(done.exit_code)


@app.command()
def plan(
    name: Name,
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
    out: Out = None,
    store: StoreDir = None,
    retry_failed: RetryFailed = False,
    why: Annotated[bool, typer.Option("--why", help="Say of each task why it would run.")] = False,
) -> None:
    """Show how many points become how many tasks, and which of them are missing."""
    from sweep import api
    from sweep.execution import estimates, gpus
    from sweep.execution.missing import missing
    from sweep.execution.resources import local_resources
    from sweep.results.folder import reasons
    from sweep.store.store import Store

    planned = api.plan_sweep(sweep_of(name, file, set_))
    results = Store(options_of(name, out, store).store_folder)
    todo = missing(planned.plan, results, retry_failed)
    echo = typer.echo
    echo(f"{name}: {len(planned.plan.points):,} points -> {_kinds(planned.plan.counts())}")
    for skipped in planned.grid.skipped:
        echo(f"  skipped {skipped.points:,} points: {skipped.reason}")
    echo(f"  {len(planned.plan.tasks) - len(todo):,} tasks done, {len(todo):,} to run")
    for reason, count in reasons(todo).items():
        echo(f"    {count:,}: {reason}")
    have = local_resources()
    of_gpus = gpus.lines(planned.sweep, have) if todo else ()
    for line in (*estimates.lines(planned, todo, results, have.cpus), *of_gpus):
        echo(f"  {line}")
    for note in planned.plan.notes:
        echo(f"  note: {note}")
    if why:
        for key, reason in todo.items():
            task = planned.plan.tasks[key]
            echo(f"{key} {task.kind:9} {task.label}: {reason}")


def _kinds(counts: dict[str, int]) -> str:
    parts = [f"{n:,} {kind}" for kind, n in counts.items() if n]
    return f"{sum(counts.values()):,} tasks ({', '.join(parts)})"


@app.command()
def status(folder: RunFolder) -> None:
    """Say how far a run is: running, finished, stopped or dead."""
    from sweep.results.folder import status as lines

    for line in lines(folder):
        typer.echo(line)


@app.command()
def watch(
    folder: RunFolder,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 2.0,
) -> None:
    """Follow a run from another terminal until it ends."""
    import time

    from sweep.results.folder import status as state

    last: list[str] = []
    while True:
        lines = state(folder)
        if lines != last:
            typer.echo("\n".join(lines))
        if ": running" not in lines[0]:
            break
        last = lines
        time.sleep(every)


@app.command()
def submit(
    name: Name,
    address: Annotated[str, typer.Option(help="Ray's job server, http://HOST:8265.")],
    out: Annotated[str, typer.Option(help="Absolute run folder, or a URL, that the job reaches.")],
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
    store: StoreDir = None,
    wait: Annotated[bool, typer.Option(help="Follow the job's log until it ends.")] = True,
) -> None:
    """Run a sweep as a Ray job on a cluster."""
    from sweep.execution.ray_job import submit as send

    sweep_of(name, file, set_)  # a faulty file never leaves this machine
    extra = [part for value in set_ for part in ("--set", value)]
    extra += ["--store", str(store.absolute())] if store else []
    raise typer.Exit(send(name, file, out, address, extra, wait))


@app.command()
def pull(
    url: Annotated[str, typer.Argument(help="URL of a run folder, as given to --out.")],
    folder: Annotated[Path, typer.Argument(help="Folder to put it into.")],
) -> None:
    """Copy a run from a URL to a folder of this machine."""
    from sweep.files.mirror import Mirror, is_url

    if not is_url(url):
        raise InputError(f"{url} is no URL; write s3://…, gs://…, file:///…")
    Mirror(url, folder).pull()
    typer.echo(str(folder))


@app.command()
def gc(
    store: Annotated[Path, typer.Argument(help="Store or run folder.")],
    keep: Annotated[
        list[str], typer.Option(help="Keep only what these sweeps need (repeatable).")
    ] = [],  # noqa: B006
    file: File = DEFAULT_FILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="Drop kept traces too; new policies evaluate again.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over what release 0.1.0 has finished; no more.")
    ] = False,
) -> None:
    """Remove leftovers and unneeded artefacts of a store, and compact its journal."""
    from sweep import api
    from sweep.store.gc import gc as tidy
    from sweep.store.store import Store

    if not store.is_dir():
        raise InputError(f"{store} is no folder")
    if adopt:
        _adopt(store, file)
        return
    needed: set[str] = set()
    for name in keep:
        planned = api.plan_sweep(sweep_of(name, file, []))
        if not planned.materials.complete:
            why = "; ".join(planned.materials.notes) or "its texts are not read yet"
            raise InputError(f"what {name} needs is not known, so nothing is removed: {why}")
        needed |= set(planned.plan.tasks)
    keys = needed if keep else None
    with Store(store) as opened:
        done = tidy(opened, keys, dry_run, traces)
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{done.records} records, {done.files} files, {done.freed_bytes:,} bytes {verb}")


def _adopt(store: Path, file: Path) -> None:
    """Take over what release 0.1.0 has finished; of plug-ins, those that the sweep file names."""
    from sweep.spec.file import load
    from sweep.store.adopt import adopt
    from sweep.store.store import Store

    if file.is_file():
        load(file)
    with Store(store) as opened:
        adopted = adopt(opened)
    left = f", {adopted.left} left: their code is another" if adopted.left else ""
    typer.echo(f"{adopted.tasks} tasks of release 0.1.0 adopted{left}")


@app.command()
def logs(
    what: Annotated[
        list[str],
        typer.Argument(help="Key of a task, or its first digits; and a store or run folder."),
    ],
    store: Annotated[Path | None, typer.Option("--store", help="Store or run folder.")] = None,
) -> None:
    """Print what a task wrote, its state and its error; of a folder alone, its failed tasks."""
    from sweep.cli.logs import lines

    for line in lines(what, store):
        typer.echo(line)


cli_report.add_to(app)


app.add_typer(searches)


def _is_input(error: Exception) -> bool:
    """Whether a lower package refused what the user gave."""
    from methods import MethodError
    from reports import ReportError
    from simulator import SimulatorError

    return isinstance(error, MethodError | SimulatorError | ReportError)


app.add_typer(tools)


def main() -> None:
    """Entry point; a user's mistake is one message and an exit code, never a traceback."""
    try:
        _run()
    except SystemExit as ended:
        executor = sys.modules.get("sweep.execution.ray_executor")
        if executor is None or not executor.LOST:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)


def _run() -> None:
    try:
        app()
    except SweepError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in FULL:
            raise
        failed = write_error(error.filename or "to the disk", error)
        sys.stderr.write(f"{failed}\n")
        sys.exit(failed.exit_code)
    except Exception as error:
        if not _is_input(error):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(InputError.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
