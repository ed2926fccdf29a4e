"""The whole of `sweep allocate NAME`: settings, rounds, and the files that come of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods import share_tables
from reports.findings.points import short_name
from sweep.allocation.files import Allocation, write
from sweep.execution.resources import check_out
from sweep.execution.session import Session
from sweep.files.atomic import write_json
from sweep.inputs import model_ref
from sweep.keys import digest
from sweep.options import Options
from sweep.plan.materials import Materials
from sweep.plan.point import Point
from sweep.search.allocate.asked import Asked
from sweep.search.allocate.measured import Bench, Measured, whole
from sweep.search.allocate.rounds import Solution, allocate, first_round
from sweep.search.allocate.targets import Curves
from sweep.spec.entries import Sweep

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SENSITIVITIES = "sensitivities.json"


@dataclass(frozen=True, slots=True)
class Allotted:
    """What came of one setting and target."""

    point: Point
    solution: Solution
    path: Path


def run(sweep: Sweep, asked: Asked, options: Options, console: Console) -> list[Allotted]:
    """Measure what is missing, and write an allocation for each setting and target.

    Raises InputError or ResourceError before anything is run, StoppedError after a signal; the
    same call then goes on where it stopped.
    """
    check_out(options.out)
    measuring = asked.sweep(sweep)
    settings = asked.settings(measuring)
    materials = Materials(measuring)
    materials.fetch(settings, True, console.print)
    materials = Materials(measuring)
    done: list[Allotted] = []
    with Session(measuring, options, console) as session:
        options.out.mkdir(parents=True, exist_ok=True)
        for point in settings:
            done += _setting(point, asked, session, materials)
    return done


def _setting(point: Point, asked: Asked, session: Session, materials: Materials) -> list[Allotted]:
    """All targets of one setting."""
    out, label = session.options.out, label_of(point)
    started = time.monotonic()

    def say(text: str) -> None:
        spent = time.monotonic() - started
        session.console.print(f"{label}: {text} ({spent:.0f} s)", markup=False)

    bench = Bench(point, asked.groups, session, materials)
    cells = whole(bench.layers, len(bench.groups)).size
    say(f"{cells} groups of layers at {len(asked.rungs)} shares, one at a time")
    curves = first_round(bench, asked.rungs)
    write_json(out / f"{label}-{SENSITIVITIES}", _curves(curves, asked, point, materials))
    allotted = []
    for target in asked.targets:
        solution = allocate(bench, curves, target, asked.rounds, say)
        path = out / f"{label}-{target.label}.json"
        write(path, _file(bench, solution, asked))
        allotted.append(Allotted(point, solution, path))
    return allotted


def label_of(point: Point) -> str:
    """The setting, as the beginning of a file's name."""
    quant = "" if point.quant.method == "none" else f"-{point.quant.method}{point.quant.bits:g}"
    name = short_name(point.variant).replace("/", "-").replace(" ", "-")
    return f"{name}{quant}-{point.device.dram_gb:g}gb"


def _file(bench: Bench, solution: Solution, asked: Asked) -> Allocation:
    point, found, target = bench.point, solution.found, solution.target
    table = tuple(tuple(map(float, row)) for row in found.table.round(4))
    how: dict[str, Any] = {
        "target": {target.kind: target.amount},
        **_cache(point),
        "text": point.accuracy.text,
        "windows": point.accuracy.windows,
        "measured": _figures(found),
        "first_round": _figures(solution.first),
        "uniform": _figures(solution.uniform),
    }
    return Allocation(
        shares=share_tables.mapping(bench.groups, table),
        density=float(found.row["density"]),
        method=point.method,
        model=point.model,
        weights=model_ref.fingerprint(point.model),
        key=digest([found.row["point_key"], [target.kind, target.amount], asked.rungs]),
        how=how,
    )


def _cache(point: Point) -> dict[str, Any]:
    """How masks were chosen, and what was cached."""
    chosen = {"selector": point.selector, "gamma": point.gamma, "policy": point.policy}
    return chosen | {"dram_gb": point.device.dram_gb}


def _figures(measured: Measured) -> dict[str, float]:
    row = measured.row
    return {
        "density": row["density"],
        "kl": measured.kl,
        "delta_ppl": row["delta_ppl"],
        "missed_bytes_per_token": measured.bytes,
        "tokens_per_s": row["tokens_per_s"],
    }


def _curves(curves: Curves, asked: Asked, point: Point, materials: Materials) -> dict[str, Any]:
    """What each group of each layer does alone: KL and bytes that are read, by share, as measured
    at some shares and smoothed between them."""
    return {
        "model": point.model,
        "weights": model_ref.fingerprint(point.model),
        "method": point.method,
        **_cache(point),
        "text": materials.sweep.text,
        "groups": list(curves.groups),
        "measured_at": list(asked.rungs),
        "shares": curves.shares[0, 0].tolist(),
        "kl": curves.kl.tolist(),
        "missed_bytes_per_token": curves.missed.tolist(),
    }


def tables(done: list[Allotted]) -> Table:
    """For the terminal: each allocation beside equal shares of the same density."""
    from rich.table import Table

    table = Table(title="On the text that was measured", title_justify="left")
    for name in ("setting", "target", "shares", "density", "KL", "MB missed", "tok/s"):
        left = name in ("setting", "target", "shares")
        table.add_column(name, justify="left" if left else "right")
    for one in done:
        solution = one.solution
        for name, measured in (("allocated", solution.found), ("equal", solution.uniform)):
            figures = (measured.row["density"], measured.kl, measured.bytes / 1e6)
            cells = [f"{figure:.4g}" for figure in (*figures, measured.row["tokens_per_s"])]
            table.add_row(label_of(one.point), solution.target.label, name, *cells)
    return table
