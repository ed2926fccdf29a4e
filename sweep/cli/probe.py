"""`sweep probe [PATH]`: what storage, memory and processor of this machine do; and `sweep replay
RUN`: the reads of a run, done on that storage."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.arguments import RunFolder, console_on
from sweep.errors import ResourceError
from sweep.files.atomic import replace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sweep.probe.run import Outcome
    from sweep.probe.validity import Row
    from sweep.replay.measure import Outcome as ReplayOutcome

probing = typer.Typer()


@probing.command()
def probe(
    path: Annotated[Path, typer.Argument(help="Folder on the storage to measure.")] = Path(),
    quick: Annotated[
        bool, typer.Option("--quick", help="About 10 s: five read sizes, two depths, one mode.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Time for all of it [120; with --quick 10].")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the image [1GiB; a quarter of what is free].")
    ] = None,
    read: Annotated[
        list[str], typer.Option("--read", help="Read size (repeatable) [4KiB to 4MiB].")
    ] = [],  # noqa: B006
    depth: Annotated[
        list[int], typer.Option("--depth", help="Reads in flight (repeatable) [1 to 16].")
    ] = [],  # noqa: B006
    interface_gbps: Annotated[
        float | None, typer.Option(help="What the interface can carry; rows above are invalid.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Device file to write [PATH/device.yaml].")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the device.")] = "probed",
    force: Annotated[bool, typer.Option("--force", help="Replace the device file.")] = False,
) -> None:
    """Measure storage under PATH, memory and compute, and write a device file."""
    from sweep.probe import device_file, grid, run

    options = run.Options(
        path,
        seconds,
        grid.bytes_of(size, "--size") if size else None,
        tuple(grid.bytes_of(text, "--read") for text in read),
        tuple(depth),
        quick,
        interface_gbps,
    )
    run.check(options)
    out = out or path / device_file.NAME
    device_file.check_out(out, force)
    with _Shown(console_on()) as shown:
        outcome = run.probe(options, shown)
    _print(console_on(stderr=False), outcome)
    device_file.write_rows(outcome, out)
    typer.echo(f"rows: {device_file.rows_file(out)}")
    refusal = device_file.refusal(outcome)
    if refusal:
        raise ResourceError(f"no device file: {refusal}")
    command = _command(quick, seconds, size, read, depth, interface_gbps)
    device_file.write(device_file.device(outcome, name, command, date.today()), out)
    typer.echo(f"device: {out}")


def _command(
    quick: bool,
    seconds: float | None,
    size: str | None,
    read: Sequence[str],
    depth: Sequence[int],
    interface_gbps: float | None,
) -> str:
    """The command without its path, which is nobody else's business."""
    words = ["sweep", "probe"] + ["--quick"] * quick
    words += [f"--seconds={seconds:g}"] if seconds is not None else []
    words += [f"--size={size}"] if size else []
    words += [f"--read={text}" for text in read] + [f"--depth={count}" for count in depth]
    words += [f"--interface-gbps={interface_gbps:g}"] if interface_gbps is not None else []
    return shlex.join(words)


class _Shown:
    """Progress on a terminal as a bar; elsewhere a line when something else begins."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,  # drawing takes processor time from the reader
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0)
        self._kind = ""

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def phase(self, text: str, share: float) -> None:
        self._bar.update(self._task, description=text, completed=share)
        kind = text.partition(",")[0]
        if kind != self._kind and not self._console.is_terminal:
            self._console.print(f"{share:4.0%} {kind}", markup=False)
        self._kind = kind


def _print(console: Console, outcome: Outcome) -> None:
    kinds = dict.fromkeys((row.mode, row.pattern) for row in outcome.rows)
    for kind in kinds:
        rows = [row for row in outcome.rows if (row.mode, row.pattern) == kind]
        console.print(_grid(rows, f"{kind[0]} {kind[1]}, MB/s"))
    first = next(iter(kinds))
    of_first = [row for row in outcome.rows if (row.mode, row.pattern) == first]
    console.print(_latencies(of_first, f"{first[0]} {first[1]}, µs of a read: median, 99 %"))
    for text in [*_flags(outcome.rows), *_rates(outcome), *_fits(outcome), *outcome.notes]:
        console.print(text, markup=False)


def _grid(rows: Sequence[Row], title: str) -> Table:
    """Throughput by read size and depth; what is not valid stands in brackets, ~ marks a spread
    above a fifth."""
    cells = {
        (row.size, row.depth): (
            f"{row.mbps:.0f}{'~' if row.rel_spread > 0.2 else ''}"
            if row.valid
            else f"({row.mbps:.0f})"
        )
        for row in rows
    }
    return _by_size(cells, title)


def _latencies(rows: Sequence[Row], title: str) -> Table:
    return _by_size({(r.size, r.depth): f"{r.p50_us:.0f} {r.p99_us:.0f}" for r in rows}, title)


def _by_size(cells: dict[tuple[int, int], str], title: str) -> Table:
    """A row for each read size, a column for each depth."""
    from rich.table import Table

    from sweep.probe.grid import size_text

    depths = sorted({depth for _, depth in cells})
    table = Table(title=title, title_justify="left")
    for name in ("read", *(f"depth {depth}" for depth in depths)):
        table.add_column(name, justify="right")
    for size in sorted({size for size, _ in cells}):
        table.add_row(size_text(size), *(cells.get((size, depth), "") for depth in depths))
    return table


def _flags(rows: Sequence[Row]) -> list[str]:
    """How many rows are not valid, by the kind of reason, with one of them in full."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if not row.valid:
            kinds.setdefault(row.reason.partition(":")[0], []).append(row)
    lines = [
        f"({len(of_kind)} of {len(rows)} rows) not valid, {of_kind[0].reason}"
        for of_kind in kinds.values()
    ]
    bound = sum("reader" in row.note for row in rows)
    if bound:
        lines.append(f"{bound} rows are bound by the reader's processor time: at least this")
    return lines


def _rates(outcome: Outcome) -> list[str]:
    names = {
        "read": "DRAM read",
        "copy": "DRAM copy, each byte once",
        "compute": "sparse products, weight bytes",
    }
    return [
        f"{names[rate.what]}: {rate.gbps:.2f} GB/s ({rate.gbps_min:.2f} to {rate.gbps_max:.2f}), "
        f"{rate.threads} threads"
        for rate in outcome.rates
    ]


def _fits(outcome: Outcome) -> list[str]:
    from sweep.probe.grid import size_text

    lines = []
    for curve, law in zip(outcome.curves, outcome.fits, strict=True):
        size, error = law.worst
        lines.append(
            f"depth {law.depth}: {law.latency_us:.1f} µs + bytes / {law.gbps:.2f} GB/s, wrong by "
            f"{error:+.0%} at worst ({size_text(size)}); {curve.reads_per_s:,.0f} reads/s at most"
        )
    return lines


@probing.command()
def replay(
    run: RunFolder,
    point: Annotated[
        list[str],
        typer.Option("--point", help="A point, by the beginning of its key (repeatable)."),
    ] = [],  # noqa: B006
    folder: Annotated[Path, typer.Option(help="Folder on the storage to read from.")] = Path(),
    depth: Annotated[int, typer.Option(help="Reads in flight.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens of each point.")] = 16,
    repeats: Annotated[int, typer.Option(help="Times that each is read.")] = 3,
    multiply: Annotated[
        bool, typer.Option("--multiply", help="Multiply what is read, too, as 4-bit columns.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the figures go [RUN/replay.json].")
    ] = None,
) -> None:
    """Do the reads of a run's points on this machine's storage: predicted beside measured."""
    from sweep.replay import measure, points

    chosen = points.replayable(run, point, tokens)
    console = console_on()
    outcome = measure.run(folder, chosen, depth, repeats, console.print, multiply)
    shown = console_on(stderr=False)
    shown.print(_replay_table(outcome))
    if multiply:
        shown.print(_products_table(outcome))
    for line in outcome.lines:
        if not line.valid:
            shown.print(f"not valid: {line.label}: {line.reason}", markup=False)
    shown.print(outcome.verdict)
    target = out or run / "replay.json"
    written = {**outcome.to_json(), "machine": _machine_words(), "day": f"{date.today()}"}
    replace(target, json.dumps(written, indent=1).encode())
    typer.echo(f"figures: {target}")
    if target.resolve() == (run / "replay.json").resolve():
        _replayed_rows(run)


def _replayed_rows(run: Path) -> None:
    """Rows of the run's table get what was measured of them."""
    from sweep.results.written import files

    files.rewrite(run)
    typer.echo(f"rows: {run / 'results.parquet'}")


def _machine_words() -> dict[str, str]:
    from sweep.probe import system

    return {"processor": system.processor(), "os": system.operating_system()}


def _replay_table(outcome: ReplayOutcome) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Flash of a token in ms, {outcome.depth} reads in flight")
    columns = ("reads", "MB", "paper", "affine", "curve", "measured", "off")
    table.add_column("point", overflow="fold", min_width=24)
    for name in columns:
        table.add_column(name, justify="right")
    for line in outcome.lines:
        seconds = (line.paper_s, line.affine_s, line.curve_s, line.measured_s)
        cells = [f"{line.reads_per_token:,.0f}", f"{line.bytes_per_token / 1e6:.2f}"]
        cells += [f"{1e3 * s:.3g}" for s in seconds]
        cells += [f"{line.error('curve'):+.0%}" if line.valid else "-"]
        table.add_row(Text(line.label), *cells)
    return table


def _products_table(outcome: ReplayOutcome) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"Flash and products of a token in ms, {outcome.depth} threads")
    table.add_column("point", overflow="fold", min_width=24)
    for name in ("MB used", "products alone", "predicted", "measured", "off"):
        table.add_column(name, justify="right")
    for line in outcome.lines:
        if (one := line.products) is not None:
            seconds = (one.computing_s, one.predicted_s, one.measured_s)
            off = f"{one.error:+.0%}" if one.valid else "-"
            cells = [f"{one.used_bytes_per_token / 1e6:.2f}", *(f"{1e3 * s:.3g}" for s in seconds)]
            table.add_row(Text(line.label), *cells, off)
    return table
