"""What the commands share: options of the same name and meaning, and how they read a sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sweep.options import Options
    from sweep.spec.entries import Sweep

Name = Annotated[str, typer.Argument(help="Name of a sweep in the sweep file.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/demo.")]
File = Annotated[Path, typer.Option("--file", "-f", help="Sweep file.")]
Set = Annotated[
    list[str], typer.Option("--set", help="Override a value: sweeps.demo.windows=1 (repeatable).")
]
Out = Annotated[
    str | None, typer.Option(help="Run folder, or a URL such as s3://… (default: runs/NAME).")
]
StoreDir = Annotated[Path | None, typer.Option("--store", help="Store shared by runs.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to attach to, host:port or auto.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="CPUs of the local Ray; 0 runs in this process.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed tasks again.")]
MaxHours = Annotated[
    float | None,
    typer.Option("--max-hours", min=0, help="Stop after this time as Ctrl-C would; resumable."),
]
UntilCertain = Annotated[
    bool,
    typer.Option("--until-certain", help="Give choices windows until they are certain (certify)."),
]

DEFAULT_FILE = Path("sweeps.yaml")


def sweep_of(name: str, file: Path, set_: list[str]) -> Sweep:
    """The sweep of that name in a file. Raises InputError."""
    from sweep.spec.file import load, select

    return select(load(file, set_), name)


def options_of(name: str, out: str | None, store: Path | None, **how: Any) -> Options:
    """The options of a run of that name; for a URL, `out` is the folder that stands for it here.

    `how` are further fields of `Options`, as the command line names them.
    """
    from sweep.files.mirror import is_url, work_folder
    from sweep.options import Options

    if store is not None and is_url(str(store).replace(":/", "://", 1)):
        raise InputError(f"--store {store}: a store is a folder; give --out a URL instead")
    if out is not None and is_url(out):
        return Options(out=work_folder(out), store=store, **how)
    return Options(out=Path(out) if out else Path("runs") / name, store=store, **how)


@contextmanager
def kept_at(out: str | None) -> Iterator[None]:
    """Fetch a run folder that is given as a URL, and copy back what is written meanwhile."""
    from sweep.files.mirror import is_url, mirrored

    if out is None or not is_url(out):
        yield
        return
    with mirrored(out):
        yield


def console_on(stderr: bool = True) -> Console:
    """What people read goes to stderr, what programs may read to stdout."""
    from rich.console import Console

    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False, soft_wrap=True)


def print_outcome(console: Console, done: Any, name: str, out: str | None) -> None:
    """What came of a run (`sweep.api.Finished`), for people; where its report is, for programs."""
    from sweep.execution.progress import duration

    for text in done.damaged:
        console.print(f"damaged and made again: {text}", markup=False)
    for text in done.failed:
        console.print(f"failed: {text}", markup=False)
    if done.lost:
        console.print(f"{done.lost} of them the machine failed; the same command tries them again")
    if len(done.failed) > done.lost:
        console.print("failed tasks stay failed; --retry-failed runs them again")
    if done.stopped_by:
        console.print(f"stopped by {done.stopped_by}; run the same command again to go on")
    else:
        tasks = f"{done.ran} tasks run" if done.ran else "nothing was missing"
        console.print(f"{name}: {done.table.num_rows} points, {tasks}, {duration(done.seconds)}")
    if done.certain:
        console.print(done.certain, markup=False)
    if done.traces and done.ran:
        console.print(done.traces)
    report = done.out / "report.html"
    if report.exists():
        typer.echo(f"report: {report}")
    if done.out != Path(out or done.out):
        typer.echo(f"all of it: {out}")
