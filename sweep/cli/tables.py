"""Tables for the terminal: decisions, listings, checks."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweep.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from methods.contract import Verdict as MethodVerdict
    from reports.findings.budgets import Budget
    from reports.findings.certified import Certified
    from reports.findings.decisions import Decision
    from reports.findings.points import Point
    from reports.reading.run import Run
    from simulator.device import Device
    from simulator.verdicts import Verdict as PolicyVerdict
    from sweep.cli.trace_speeds import Speed
from sweep.traces import Events, HitRate


@dataclass(frozen=True, slots=True)
class Decided:
    """What a run decides, for the terminal, and what it lacks for it."""

    shown: Group
    lacking: list[str]
    """A sentence for each thing without which the answer is open; empty where all is there."""


def decisions(folder: Path, budgets: list[str]) -> Decided:
    """The fastest configuration within each budget, one table for each model and device: what the
    point estimates say, what is certain, and the runner-up."""
    from reports.findings.costs import cost_name
    from reports.findings.points import device_label, varying, weights_label
    from reports.pages.summary import headlines, read_size_caveats
    from reports.reading.run import load

    run = load(folder, budgets)
    several = varying([d.setting for d in run.decisions])
    tables: dict[tuple[str, str], Table] = {}
    for decision in (d for d in run.decisions if not d.unmeasured):
        setting, cost = decision.setting, cost_name(decision.budget)
        title = f"{weights_label(setting)}, {device_label(setting, several)}"
        if (title, cost) not in tables:
            tables[title, cost] = _decision_table(title, cost)
        for row in _decision_rows(decision):
            tables[title, cost].add_row(*row)
    lead = [Text(line) for line in headlines(run)]
    costs = " or ".join(dict.fromkeys(cost for _, cost in tables)) or "ΔPPL"
    marks = Text(f"±: the 95 % interval of {costs} reaches beyond the budget, or is not known.")
    care = [marks, *(Text(line) for line in read_size_caveats(run))]
    return Decided(Group(*lead, *tables.values(), *care), _lacking(run, folder))


def _lacking(run: Run, folder: Path) -> list[str]:
    """Settings without a measured dense row, and why that is so; budgets without their figure."""
    from reports.findings.costs import unmeasured
    from reports.findings.points import device_label, weights_label

    if not run.points:
        return [f"{folder} has no point, so nothing can be decided"]
    open_budgets = dict.fromkeys(d.budget for d in run.decisions if d.unmeasured)
    by_reason: dict[str, list[str]] = {}
    for setting in run.settings:
        members = [p for p in run.points if p.setting == setting]
        if not any(p.dense and p.measured for p in members):
            setting_name = f"{weights_label(setting)}, {device_label(setting)}"
            by_reason.setdefault(_why_no_dense(members), []).append(setting_name)
    without_dense = [f"{why}: {'; '.join(places)}" for why, places in by_reason.items()]
    return [*without_dense, *(f"within {b.label}: {unmeasured(b)}" for b in open_budgets)]


def _why_no_dense(members: Sequence[Point]) -> str:
    dense = next((p for p in members if p.dense), None)
    if dense is None:
        why = "the sweep has no `dense` among its methods; add it and run the sweep again"
    elif dense.status == "failed":
        why = f"the dense run failed ({dense.error}); run the sweep again with --retry-failed"
    else:
        why = "the dense run is not finished; run the sweep again to go on"
    return f"every decision is against the dense model, and {why}"


def _decision_table(title: str, cost: str) -> Table:
    """Eighty columns hold it: only the configuration wraps. `cost` is ΔPPL, KL or another."""
    table = Table(title=Text(f"\n{title}"), title_justify="left", box=None, padding=(0, 1, 0, 0))
    names = ("within", "choice", "tok/s", "gain", "configuration", cost, "95 % interval", "hits")
    for name in names:
        words, wraps = name in ("within", "choice", "configuration"), name == "configuration"
        table.add_column(
            name,
            justify="left" if words else "right",
            no_wrap=not wraps,
            min_width=18 if wraps else None,
        )
    return table


def _decision_rows(decision: Decision) -> Iterator[list[str]]:
    """The fastest, what is certain where that is another, and the runner-up."""
    best, certain, budget = decision.best, decision.conservative, decision.budget
    name = budget.label.removesuffix(" nat")
    if decision.certified is not None:
        yield [name, *_certified(decision.certified)]
        if best is not None and best != decision.certified.choice:
            yield ["", "estimate", *_figures(best, budget, " ±")]
    elif best is None:
        yield [name, "none", "-", "-", decision.message, "", "", ""]
    elif decision.certainty == "within":
        yield [name, "best, sure", *_figures(best, budget)]
    else:
        yield [name, "best", *_figures(best, budget, " ±")]
    if certain is not None and decision.certainty != "within" and decision.certified is None:
        yield ["", "best sure", *_figures(certain, budget)]
    if decision.runner_up is not None:
        yield ["", "runner-up", *_figures(decision.runner_up, budget, _doubt(decision))]


def _certified(cell: Certified) -> list[str]:
    """What is certain with all other choices of the run; its bound stands for the interval."""
    if cell.choice is None:
        words = "no candidate is within" if cell.decided else "none is surely within"
        return [cell.state, "-", "-", words, "", "", ""]
    figures = _figures(cell.choice, cell.budget)
    return [cell.state, *figures[:4], cell.bound_text, figures[5]]


def _doubt(decision: Decision) -> str:
    """± where the runner-up's interval is not within the budget as a whole."""
    from reports.findings.costs import upper_end

    other = decision.runner_up
    sure = other is None or upper_end(other, decision.budget) <= decision.limit
    return "" if sure else " ±"


def _figures(point: Point, budget: Budget, doubt: str = "") -> list[str]:
    from reports.findings.costs import cost, cost_name, ends
    from reports.findings.points import configuration
    from reports.numbers import figure

    unsigned = cost_name(budget) in ("KL", "joules")
    written = figure if unsigned else "{:+.3f}".format
    pair = ends(point, budget)
    interval = "…".join(map(written, pair)) if all(map(math.isfinite, pair)) else "-"
    return [
        f"{point.tokens_per_s:.3g}{doubt}",
        f"{point.gain:.2f}×",
        configuration(point),
        written(cost(point, budget)),
        interval,
        _known(f"{point.hit_rate:.0%}"),
    ]


def _known(figure: str) -> str:
    return "-" if "nan" in figure else figure


def method_checks(file: Path) -> tuple[Table, bool]:
    """Each rule of its contract for each method and policy of a plug-in, and whether all hold."""
    table = Table(box=None, pad_edge=False, show_header=False)
    all_pass = True
    for name, verdict in _verdicts(file):
        all_pass = all_pass and verdict.passed
        mark = Text("pass", "green") if verdict.passed else Text("FAIL", "red")
        rule = f"{verdict.rule}: {verdict.reason}" if verdict.reason else verdict.rule
        table.add_row(Text(name), mark, Text(rule))
    return table, all_pass


def _verdicts(file: Path) -> Iterator[tuple[str, MethodVerdict | PolicyVerdict]]:
    from sweep import plugins

    loaded = plugins.load(file)
    if loaded.methods:
        from methods.contract import check as check_method  # imports torch

        yield from ((name, verdict) for name in loaded.methods for verdict in check_method(name))
    if loaded.policies:
        from simulator.contract import check as check_policy  # imports numba

        yield from ((name, verdict) for name in loaded.policies for verdict in check_policy(name))


def listing(kind: str, file: Path) -> Table:
    """What `sweep list` prints."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in _LISTINGS[kind](file):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _methods(file: Path) -> list[tuple[str, str]]:
    """Built-in methods, those of the file's plug-ins, and aliases."""
    import methods
    from sweep.spec.file import load

    with contextlib.suppress(InputError):  # a file with faults hides no built-in method
        load(file)
    from sweep.spec.entries import ALIASES

    rows = [(name, methods.summary(name)) for name in methods.names()]
    return rows + [(n, f"{m} with gamma {gamma:g}") for n, (m, gamma) in ALIASES.items()]


def _policies(file: Path) -> list[tuple[str, str]]:
    """Built-in policies and those of the file's plug-ins."""
    from simulator.policies import POLICIES, policy_summary
    from sweep.spec.file import load

    with contextlib.suppress(InputError):  # a file with faults hides no built-in policy
        load(file)
    return [(name, policy_summary(name)) for name in POLICIES]


def _devices(_file: Path) -> list[tuple[str, ...]]:
    from simulator import Device

    devices = [Device.load(name) for name in Device.names()]
    return [
        (d.name, d.title, f"{d.dram_gb:g} GB", f"{d.kind}: {_flash_of(d)}", f"{d.dram_gbps:g} GB/s")
        for d in devices
    ]


def _flash_of(device: Device) -> str:
    """Speed of a device's Flash, by what kind of figures there are."""
    if device.kind == "curve":
        depths = [depth for depth, _ in device.flash]
        speeds = [gbps for _, cost in device.flash for _, gbps in cost.rows]
        return (
            f"Flash {min(speeds):.2g} to {max(speeds):.2g} GB/s by size and depth "
            f"{depths[0]} to {depths[-1]}, driven at {device.io_depth}"
        )
    read = f"+ {device.latency_us:g} µs a read" if device.latency_us else ""
    return f"Flash {device.flash_gbps:g} GB/s {read or f'({device.flash_read_kib:g} KiB+)'}"


def _models(_file: Path) -> list[tuple[str, str]]:
    from simulator import Geometry, footprint

    sizes = [(name, footprint(Geometry.load(name), []).total_bytes) for name in Geometry.names()]
    return [(name, f"{size / 1e9:.2f} GB at 4 bit") for name, size in sizes]


def _sweeps(file: Path) -> list[tuple[str, str]]:
    from sweep.spec.file import load

    return [(name, sweep.description) for name, sweep in load(file).sweeps.items()]


_LISTINGS = {
    "methods": _methods,
    "policies": _policies,
    "devices": _devices,
    "models": _models,
    "sweeps": _sweeps,
}


def hit_rates(rates: Sequence[HitRate]) -> Table:
    """Hit rates of `sweep simulate`: a row for each group and cache size, a column a policy."""
    policies = list(dict.fromkeys(rate.policy for rate in rates))
    table = Table(title="Hit rate", title_justify="left")
    for name in ("group", "cached", "slots", *policies):
        table.add_column(name, justify="left" if name == "group" else "right")
    rows: dict[tuple[str, float, int], dict[str, float]] = {}
    for rate in sorted(rates, key=lambda r: (r.group, r.fraction)):
        rows.setdefault((rate.group, rate.fraction, rate.slots), {})[rate.policy] = rate.rate
    for (group, fraction, slots), by_policy in rows.items():
        shown = (f"{by_policy[name]:.2%}" for name in policies)
        table.add_row(Text(group), f"{fraction:.0%}", str(slots), *shown)
    return table


def events(tried: Sequence[Events]) -> Table:
    """Of `sweep trace events`: a row for each group, cache size and policy."""
    table = Table(title="Event by event", title_justify="left")
    columns = ("group", "cached", "policy", "hits", "misses", "first uses", "in", "out")
    for name in (*columns, "an event, p95", "a token, p95", "asked / slots", "above 1", "gap"):
        table.add_column(name, justify="left" if name in ("group", "policy") else "right")
    for one in tried:
        counts = one.counts
        moved = (counts.hits, counts.misses, counts.compulsory, counts.insertions, counts.evictions)
        table.add_row(
            Text(one.group),
            f"{one.fraction:.0%}",
            Text(one.policy),
            *(f"{count:,}" for count in moved),
            f"{counts.event_misses(95)}",
            f"{counts.step_misses(95)}",
            f"{counts.asked_per_slot:.2f}",
            f"{counts.asked_above_slots:.0%}",
            "-" if one.gap is None else f"{one.gap:.1%}",
        )
    return table


def speeds(tried: Sequence[Speed]) -> Table:
    """Tokens per second of `sweep simulate --device`: a row for each DRAM size and policy."""
    table = Table(title="Tokens per second", title_justify="left")
    for name in ("device", "DRAM", "policy", "slots a layer", "hit rate", "Flash a token", "tok/s"):
        table.add_column(name, justify="left" if name in ("device", "policy") else "right")
    for speed in tried:
        slots = ", ".join(f"{group} {count}" for group, count in speed.slots.items())
        rate = "-" if speed.hit_rate is None else f"{speed.hit_rate:.2%}"
        flash = f"{speed.flash_bytes_per_token / 1e6:.3g} MB"
        dram = f"{speed.device.dram_gb:g} GB"
        name, policy = Text(speed.device.name), Text(speed.policy)
        table.add_row(name, dram, policy, slots, rate, flash, f"{speed.tokens_per_s:.3g}")
    return table


def selfcheck() -> tuple[Table, bool]:
    """Published figures recomputed from geometry alone, and whether all are met."""
    from simulator.selfcheck import rows

    table = Table(title="Published figures that need no weights", title_justify="left")
    for name in ("what", "computed", "published", ""):
        table.add_column(name, justify="left" if name == "what" else "right")
    checks = rows()
    for row in checks:
        digits = row.printed_digits
        computed = f"{row.computed:.{digits}f}"
        table.add_row(row.what, computed, f"{row.published:.{digits}f}", "=" if row.equal else "≠")
    return table, all(row.equal for row in checks)
