"""Commands that run no sweep: what there is, whether it is right, and policies on a trace."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.arguments import DEFAULT_FILE, File, Set, console_on, sweep_of
from sweep.cli.probe import probing
from sweep.cli.size import sizes
from sweep.errors import InputError

tools = typer.Typer()
tools.add_typer(sizes)
tools.add_typer(probing)


@tools.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Models and texts.")] = None,
) -> None:
    """Get the embedded model and texts, or the ones named, checked by hash."""
    from sweep.cli import fetch as fetch_command

    fetch_command.make_present(names or [])


class Kind(StrEnum):
    """What `sweep list` lists."""

    methods = "methods"
    policies = "policies"
    devices = "devices"
    models = "models"
    sweeps = "sweeps"


@tools.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    file: File = DEFAULT_FILE,
) -> None:
    """List methods, policies, devices, models or the sweeps of a file."""
    from sweep.cli.tables import listing

    console_on(stderr=False).print(listing(kind.value, file))


@tools.command()
def validate(
    file: Annotated[Path, typer.Argument(help="Sweep file.")] = DEFAULT_FILE,
    set_: Set = [],  # noqa: B006
) -> None:
    """Check a sweep file: all faults at once, and what a run will do with each method."""
    from sweep.cli.method_trial import tried
    from sweep.spec.file import load

    loaded = load(file, set_)
    faults: list[str] = []
    for name, sweep in loaded.sweeps.items():
        try:
            grid = tried(sweep)
        except InputError as error:
            faults.append(str(error))
            continue
        typer.echo(f"{name}: {len(grid.points):,} points")
        for skipped in grid.skipped:
            if skipped.points:
                typer.echo(f"  skipped {skipped.points:,} points: {skipped.reason}")
    if faults:
        raise InputError("\n".join(faults))


@tools.command("check-method")
def check_method(
    file: Annotated[Path, typer.Argument(help="A file of your own with methods or policies.")],
) -> None:
    """Try every rule that a method or a policy must keep on those of a plug-in."""
    from sweep.cli.tables import method_checks

    table, all_pass = method_checks(file)
    console_on(stderr=False).print(table)
    raise typer.Exit(0 if all_pass else 1)


@tools.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The manual of all keys, docs/sweep-file.md.")
    ] = False,
) -> None:
    """Print the JSON schema of the sweep file, for editors, or its manual."""
    from sweep.spec import file as spec
    from sweep.spec import schema_page

    if not markdown:
        typer.echo(spec.schema_text(), nl=False)
        return
    shipped = DEFAULT_FILE.read_text(encoding="utf-8") if DEFAULT_FILE.is_file() else ""
    example = schema_page.example_of(shipped, "demo")
    typer.echo(schema_page.markdown(spec.json_schema(), example), nl=False)


@tools.command()
def doctor(
    name: Annotated[str | None, typer.Argument(help="A sweep to check for what it needs.")] = None,
    file: File = DEFAULT_FILE,
) -> None:
    """Show versions, resources and caches, and what a sweep needs and what is present."""
    from sweep.cli.doctor import report as lines

    for line in lines(sweep_of(name, file, []) if name else None):
        typer.echo(line)


@tools.command()
def selfcheck() -> None:
    """Recompute every published figure that needs no weights, beside the printed value."""
    from sweep.cli.tables import selfcheck as checks

    table, equal = checks()
    console_on(stderr=False).print(table)
    raise typer.Exit(0 if equal else 1)


trace = typer.Typer(help="Traces as files: which units each token used.", no_args_is_help=True)
tools.add_typer(trace, name="trace")


@trace.command("export")
def trace_export(
    path: Annotated[Path, typer.Argument(help="File to write.")],
    model: Annotated[str, typer.Option(help="Model.")] = "smollm2-135m",
    method: Annotated[str, typer.Option(help="Method.")] = "dip",
    density: Annotated[float, typer.Option(help="MLP density.")] = 0.5,
    text: Annotated[str, typer.Option(help="Text.")] = "embedded-wiki",
    windows: Annotated[int, typer.Option(help="Windows.")] = 1,
    window_tokens: Annotated[int, typer.Option(help="Tokens in a window.")] = 2048,
    parameter: Annotated[
        list[str], typer.Option("--parameter", help="KEY=VALUE of the method (repeatable).")
    ] = [],  # noqa: B006
    selector: Annotated[
        str | None, typer.Option(help="topk, layer-threshold, global-threshold [the method's].")
    ] = None,
    calibration: Annotated[
        str, typer.Option(help="Text that thresholds are learnt from.")
    ] = "embedded-c4",
    plugin: Annotated[
        list[Path], typer.Option("--plugin", help="File with methods of your own (repeatable).")
    ] = [],  # noqa: B006
) -> None:
    """Write the masks of a method on a model, for policies to be tried on."""
    from sweep.traces import export, parameters_of

    entry = {"method": method, **parameters_of(parameter)}
    entry |= {} if method == "dense" else {"density": density}
    entry |= {"selector": selector} if selector else {}
    settings = {"models": [model], "methods": [entry], "text": text, "calibration": calibration}
    settings |= {"windows": windows, "window_tokens": window_tokens}
    written = export(path, settings, console_on().print, [str(file.absolute()) for file in plugin])
    groups = ", ".join(f"{group} of {units} units" for group, units in written.units.items())
    typer.echo(f"{path}: {written.tokens:,} tokens, {written.layers} layers, {groups}")


@trace.command("import")
def trace_import(
    form: Annotated[str, typer.Argument(help="jsonl, colibri or moe-cache-eval.")],
    source: Annotated[Path, typer.Argument(help="Route trace of an engine.")],
    path: Annotated[Path, typer.Argument(help="Trace file to write.")],
    experts: Annotated[
        int | None, typer.Option(help="Experts of a layer, where the trace does not say it.")
    ] = None,
) -> None:
    """Make a trace file of which experts the tokens of another engine used."""
    from sweep.traces import import_routes

    written = import_routes(form, source, path, experts)
    typer.echo(
        f"{path}: {written.tokens:,} tokens, {written.layers} layers, experts of "
        f"{written.units['expert']} units"
    )


@trace.command("convert")
def trace_convert(
    path: Annotated[Path, typer.Argument(help="Trace file of a rule that routes to experts.")],
    form: Annotated[str, typer.Argument(help="jsonl or moe-cache-eval.")],
    target: Annotated[Path, typer.Argument(help="File, or folder of moe-cache-eval, to write.")],
) -> None:
    """Write the experts of a trace file in the form of others."""
    from sweep.traces import convert_routes

    convert_routes(path, form, target)
    typer.echo(str(target))


@trace.command("events")
def trace_events(
    path: Annotated[Path, typer.Argument(help="Trace file.")],
    policy: Annotated[list[str], typer.Option("--policy", "-p", help="Policy (repeatable).")] = [],  # noqa: B006
    fraction: Annotated[
        list[float], typer.Option("--fraction", help="Cached share of the units (repeatable).")
    ] = [],  # noqa: B006
) -> None:
    """What caches did event by event: misses at once, insertions, evictions, and the gap to the
    bounds."""
    from sweep.cli.tables import events
    from sweep.traces import try_events

    chosen = policy or ["lru", "lfu", "lfru", "slru", "belady", "min"]
    console_on(stderr=False).print(events(try_events(path, chosen, fraction or [0.1, 0.3, 0.5])))


@tools.command()
def split(
    model: Annotated[str, typer.Argument(help="Dense model of Llama's family.")],
    path: Annotated[Path, typer.Argument(help="Folder to write.")],
    shared: Annotated[int, typer.Option(help="Experts of a layer that every token uses.")] = 4,
    routed: Annotated[int, typer.Option(help="Experts of a layer that are routed to.")] = 12,
    chosen: Annotated[int, typer.Option(help="Routed experts that a token uses.")] = 6,
    tokens: Annotated[int, typer.Option(help="Tokens that routers learn on.")] = 0,
    calibration: Annotated[str, typer.Option(help="Text that is learnt from.")] = "embedded-c4",
    seed: Annotated[int, typer.Option(help="Of the clustering.")] = 0,
) -> None:
    """Split the MLPs of a dense model into experts: a mixture of experts without a hub."""
    from methods.experts.splitting import Shape
    from sweep.routing.split import split_model

    console = console_on()
    shape = Shape(shared, routed, chosen)
    options = {"calibration": calibration, "tokens": tokens, "seed": seed}
    share = split_model(model, path, shape, **options, notify=console.print)
    typer.echo(f"{path}: the chosen experts have {share:.0%} of what routed neurons contribute")


@tools.command()
def simulate(
    path: Annotated[Path, typer.Argument(help="Trace file.")],
    policy: Annotated[
        list[str], typer.Option("--policy", "-p", help="Policy (default: lru, lfu, belady, min).")
    ] = [],  # noqa: B006
    fraction: Annotated[
        list[float], typer.Option("--fraction", help="Cached share of the units (repeatable).")
    ] = [],  # noqa: B006
    scope: Annotated[str, typer.Option(help="window or carry.")] = "window",
    plugin: Annotated[
        list[Path], typer.Option("--plugin", help="File with policies of your own (repeatable).")
    ] = [],  # noqa: B006
    device: Annotated[
        str | None, typer.Option(help="Device: tokens per second, with the slots of its DRAM.")
    ] = None,
    dram_gb: Annotated[
        list[float], typer.Option("--dram-gb", help="In place of the device's DRAM (repeatable).")
    ] = [],  # noqa: B006
    flash_gbps: Annotated[float | None, typer.Option(help="In place of the device's.")] = None,
    dram_gbps: Annotated[float | None, typer.Option(help="In place of the device's.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Sizes of this model, where the trace names none.")
    ] = None,
) -> None:
    """Try cache policies on a trace file: hit rates, and with a device tokens per second."""
    from simulator import load_policies
    from sweep.cli.tables import hit_rates, speeds
    from sweep.cli.trace_speeds import devices_of, try_devices
    from sweep.traces import FRACTIONS, try_policies

    console = console_on(stderr=False)
    from_plugins = [name for file in plugin for name in load_policies(file)]
    chosen = list(dict.fromkeys([*(policy or ["lru", "lfu", "belady", "min"]), *from_plugins]))
    if device is None and (dram_gb or flash_gbps or dram_gbps):
        raise InputError("--dram-gb, --flash-gbps and --dram-gbps change a device: give --device")
    if device is not None:
        if fraction:
            raise InputError("--fraction says what is cached, and so does --device: give one")
        changes = {"flash_gbps": flash_gbps, "dram_gbps": dram_gbps}
        tried = devices_of(device, dram_gb, changes)
        console.print(speeds(try_devices(path, chosen, tried, scope, model, _step)))
        return
    rates = try_policies(path, chosen, fraction or FRACTIONS, scope, _step)
    console.print(hit_rates(rates))


def _step(text: str) -> None:
    """What is simulated now, where a person waits for it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
