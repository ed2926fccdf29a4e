"""`sweep best`, `certify`, `tune` and `allocate`: decisions, how sure they are, and searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.arguments import (
    DEFAULT_FILE,
    Address,
    File,
    MaxHours,
    Out,
    RetryFailed,
    RunFolder,
    Set,
    StoreDir,
    Workers,
    console_on,
    kept_at,
    options_of,
    print_outcome,
    sweep_of,
)
from sweep.errors import InputError

searches = typer.Typer()


@searches.command()
def best(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a run, such as runs/demo; with --search a sweep.")
    ],
    budget: Annotated[
        list[str],
        typer.Option(
            "--budget", "--within", "-b", help="0.2 (perplexity), 5% or kl=0.02 (repeatable)."
        ),
    ] = [],  # noqa: B006
    search: Annotated[
        bool, typer.Option("--search", help="Find it by bisection over density, without a grid.")
    ] = False,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="With --search: over all axes of the sweep at once."),
    ] = False,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="With --joint: most trials of a setting and budget [60]."),
    ] = None,
    screen: Annotated[
        str | None, typer.Option(help="With --search: dtype to look around in, as bfloat16.")
    ] = None,
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
    out: Out = None,
    store: StoreDir = None,
    address: Address = None,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Print the fastest configuration within each budget, and what is certain of it."""
    if not (search or joint):
        from sweep.cli.tables import decisions

        decided = decisions(folder, budget)
        console_on(stderr=False).print(decided.shown)
        for text in decided.lacking:
            typer.echo(f"{folder}: {text}", err=True)
        raise typer.Exit(1 if decided.lacking else 0)
    from sweep.search import best as searching

    name = str(folder)
    options = options_of(
        name, out, store, address=address, workers=workers, retry_failed=retry_failed
    )
    if trials and not joint:
        raise InputError("--trials are of --joint; a bisection ends by itself")
    if screen and joint:
        raise InputError("--screen is for a bisection; --joint measures in the sweep's own dtype")
    sweep, notes = sweep_of(name, file, set_), list[str]()
    with kept_at(out):
        if joint:
            from sweep.search.joint import command as jointly

            most = trials or jointly.MOST_TRIALS
            answer, notes = jointly.search(sweep, options, console_on(), budget, most)
        else:
            answer = searching.search(sweep, options, console_on(), budget, screen)
    console_on(stderr=False).print(searching.tables(answer, notes))


@searches.command()
def certify(
    folder: RunFolder,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Sweep file (that of the run).")
    ] = None,
    set_: Set = [],  # noqa: B006
    store: StoreDir = None,
    address: Address = None,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
    max_hours: MaxHours = None,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
) -> None:
    """Go on with a run: give its choices more windows until they are certain."""
    from sweep import api
    from sweep.results.folder import made_of

    about = made_of(folder)
    sweep = sweep_of(about.name, file or Path(about.file), set_)
    about.check_same(sweep)
    console = console_on()
    options = options_of(
        about.name,
        str(folder),
        store or about.store,
        address=address,
        workers=workers,
        retry_failed=retry_failed,
        report=report,
        max_hours=max_hours,
        until_certain=True,
    )
    done = api.run(sweep, options, console)
    print_outcome(console, done, about.name, None)
    raise typer.Exit(done.exit_code)


@searches.command()
def tune(
    name: Annotated[str, typer.Argument(help="Name of a study in the sweep file.")],
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
    out: Out = None,
    store: StoreDir = None,
    address: Address = None,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
) -> None:
    """Search γ, densities and allocations with Optuna, and measure what wins on unseen text."""
    from sweep.search import study
    from sweep.search.tune import tune as run_study
    from sweep.spec.file import load

    searched = study.load(load(file, set_), name)
    options = options_of(
        name,
        out,
        store,
        address=address,
        workers=workers,
        retry_failed=retry_failed,
        report=report,
    )
    with kept_at(out):
        done = run_study(searched, options, console_on())
    typer.echo((done.out / "study.md").read_text(encoding="utf-8"))
    typer.echo(f"trials: {done.out / 'trials.csv'}; optuna-dashboard {done.out / 'study.journal'}")
    raise typer.Exit(done.exit_code)


@searches.command()
def allocate(
    name: Annotated[str, typer.Argument(help="Name of a sweep in the sweep file.")],
    density: Annotated[
        list[float], typer.Option("--density", "-d", help="Mean MLP density (repeatable).")
    ] = [],  # noqa: B006
    missed_mb: Annotated[
        list[float],
        typer.Option("--missed-mb", help="MB of MLP weights a token reads (repeatable)."),
    ] = [],  # noqa: B006
    kl: Annotated[
        list[float], typer.Option("--kl", help="Mean KL to the dense model (repeatable).")
    ] = [],  # noqa: B006
    method: Annotated[str, typer.Option(help="A method with shares.")] = "dip-shares",
    selector: Annotated[str, typer.Option(help="How scores become masks.")] = "topk",
    gamma: Annotated[
        float | None, typer.Option(help="Below 1: masks that look at the cache [of topk 0.2].")
    ] = None,
    policy: Annotated[str, typer.Option(help="Policy of the cache.")] = "lfu",
    share: Annotated[
        list[float], typer.Option("--share", help="Share to measure at (repeatable).")
    ] = [],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, max=4, help="Rounds of measurements.")] = 1,
    text: Annotated[str | None, typer.Option(help="Text to measure on.")] = None,
    windows: Annotated[int | None, typer.Option(min=1, help="Windows of that text.")] = None,
    file: File = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
    out: Out = None,
    store: StoreDir = None,
    address: Address = None,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Find shares for layers and groups by what each loses and reads, and write them to files."""
    from sweep.search.allocate import command
    from sweep.search.allocate.asked import LADDER, Asked
    from sweep.search.allocate.targets import Target

    targets = [Target("density", amount) for amount in density]
    targets += [Target("missed", amount * 1e6) for amount in missed_mb]
    targets += [Target("kl", amount) for amount in kl]
    ladder = tuple(share) or LADDER
    asked = Asked(tuple(targets), method, selector, gamma, policy, ladder, rounds, text, windows)
    options = options_of(
        f"{name}-allocation",
        out,
        store,
        address=address,
        workers=workers,
        retry_failed=retry_failed,
    )
    sweep = sweep_of(name, file, set_)
    with kept_at(out):
        done = command.run(sweep, asked, options, console_on())
    console_on(stderr=False).print(command.tables(done))
    for one in done:
        typer.echo(str(one.path))
