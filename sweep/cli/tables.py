"""Tables for the terminal: decisions, listings, checks."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sweep.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from methods.contract import Verdict as MethodVerdict
    from reports.findings.decisions import Decision
    from simulator.verdicts import Verdict as PolicyVerdict
    from sweep.cli.trace_speeds import Speed
from sweep.traces import HitRate


def decisions(folder: Path, budgets: list[str]) -> Group:
    """The fastest configuration within each budget, one table for each model and device."""
    import reports
    from reports.findings.points import device_label, weights_label
    from reports.results import read_table

    if not budgets:
        plan = folder / "plan.json"
        budgets = json.loads(plan.read_text())["budgets"] if plan.exists() else []
    decided = reports.decide(read_table(folder / "results.parquet"), budgets)
    tables: dict[str, Table] = {}
    for decision in decided:
        title = f"{weights_label(decision.setting)}, {device_label(decision.setting)}"
        if title not in tables:
            tables[title] = _decision_table(title)
        tables[title].add_row(*_decision_row(decision))
    return Group(*tables.values())


def _decision_table(title: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for name in ("within", "tok/s", "gain", "configuration", "ΔPPL", "95 % interval", "hit rate"):
        words = name in ("within", "configuration")
        table.add_column(name, justify="left" if words else "right", no_wrap=not words)
    return table


def _decision_row(decision: Decision) -> list[str]:
    from reports.findings.points import configuration

    best = decision.best
    if best is None:
        return [decision.budget.label, "-", "-", decision.message, "", "", ""]
    return [
        decision.budget.label,
        f"{best.tokens_per_s:.3g}",
        f"{best.gain:.2f}×",
        configuration(best),
        f"{best.delta_ppl:+.3f}",
        _known(f"{best.delta_ppl_low:+.3f} … {best.delta_ppl_high:+.3f}"),
        _known(f"{best.hit_rate:.1%}"),
    ]


def _known(figure: str) -> str:
    return "-" if "nan" in figure else figure


def method_checks(file: Path) -> tuple[Table, bool]:
    """Each rule of its contract for each method and policy of a plug-in, and whether all hold."""
    table = Table(box=None, pad_edge=False, show_header=False)
    kept = True
    for name, verdict in _verdicts(file):
        kept = kept and verdict.passed
        mark = Text("pass", "green") if verdict.passed else Text("FAIL", "red")
        rule = f"{verdict.rule}: {verdict.reason}" if verdict.reason else verdict.rule
        table.add_row(Text(name), mark, Text(rule))
    return table, kept


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
        (
            d.name,
            d.title,
            f"{d.dram_gb:g} GB",
            f"Flash {d.flash_gbps:g} GB/s",
            f"{d.dram_gbps:g} GB/s",
        )
        for d in devices
    ]


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
    for (group, fraction, slots), found in rows.items():
        shown = (f"{found[name]:.2%}" for name in policies)
        table.add_row(Text(group), f"{fraction:.0%}", str(slots), *shown)
    return table


def speeds(found: Sequence[Speed]) -> Table:
    """Tokens per second of `sweep simulate --device`: a row for each DRAM size and policy."""
    table = Table(title="Tokens per second", title_justify="left")
    for name in ("device", "DRAM", "policy", "slots a layer", "hit rate", "Flash a token", "tok/s"):
        table.add_column(name, justify="left" if name in ("device", "policy") else "right")
    for speed in found:
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
