"""Caches of unequal shares by the reads of a phone: down to one group resident, the other streamed.

    python -m benchmarks.cache_shares runs/storage-shares

runs the sweep `storage-shares` of benchmarks/storage.yaml once for each way to share the cache, and
writes a part of docs/storage.md. No option of the product shares a cache so: what a layer caches is
put in place of what the plan says.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from benchmarks.results import table, write_part
from benchmarks.storage import PAGE
from reports.findings.points import Point, by_setting, configuration, points
from reports.results import read_table, rows
from simulator import Allocation, Footprint
from sweep import api
from sweep.options import Options
from sweep.plan import point as plan_point
from sweep.plan import sizes as plan_sizes
from sweep.results import table as result_table
from sweep.spec.file import load, select

FILE = Path(__file__).with_name("storage.yaml")
SHARES = {"units first": 0.0, "a third": 1 / 3, "by bytes": None, "inputs first": 1.0}
"""Of a cache's bytes, what inputs get; what one group cannot use goes to the other."""
INPUT, UNITS = "input", "intermediate"
_ABOUT = (
    "The cache holds the units that the calibration text uses most, in the layout `hot`; what "
    "differs is how much of its bytes each group gets. *By bytes* is as everywhere else; *units "
    "first* has all of W_down in DRAM before any column of W_up and W_gate, *inputs first* the "
    "other way round. Speeds are over dense; ΔPPL differs where masks know the cache."
)


def shared(sizes: Footprint, slots: dict[str, int], share: float | None) -> dict[str, int]:
    """Slots of a layer's caches that take the bytes of `slots`, a share of them for inputs."""
    if share is None or set(slots) != {INPUT, UNITS}:
        return slots
    bytes_of = {name: sizes.groups[name].unit_bytes for name in slots}
    room = sum(slots[name] * bytes_of[name] for name in slots)
    most = {name: sizes.groups[name].units * bytes_of[name] for name in slots}
    inputs = max(min(share * room, most[INPUT]), room - most[UNITS])
    taken = {INPUT: inputs, UNITS: room - inputs}
    return {name: math.floor(taken[name] / bytes_of[name] + 1e-9) for name in slots}


@contextmanager
def sharing(share: float | None) -> Iterator[None]:
    """Within, plans and tables share caches so."""
    usual = plan_sizes.slots_of

    def slots_of(point: plan_point.Point, sizes: Footprint, room: Allocation) -> dict[str, int]:
        return shared(sizes, usual(point, sizes, room), share)

    with (
        mock.patch.object(plan_sizes, "slots_of", slots_of),
        mock.patch.object(result_table, "slots_of", slots_of),
    ):
        yield


def report(out: Path) -> str:
    """Run what is missing, one folder for each way to share and one store, and tell."""
    sweep = select(load(FILE), "storage-shares")
    by_way: dict[str, list[Point]] = {}
    for way, share in SHARES.items():
        folder = out / way.replace(" ", "-")
        with sharing(share):
            options = Options(folder, store=out / "store", workers=0, report=False)
            api.run(sweep, options, Console(stderr=True))
        by_way[way] = points(rows(read_table(folder / "results.parquet")))
    about = json.loads((out / "by-bytes" / "provenance.json").read_text(encoding="utf-8"))
    parts = ["## Unequal shares of the cache", _setting(by_way["by bytes"][0], about), _ABOUT]
    for one, of_setting in by_setting(by_way["by bytes"]).items():
        parts += [f"{one.device}, {one.dram_gb * 1000:g} MB of DRAM:"]
        named = [configuration(p) for p in of_setting if not p.dense]
        parts += [_table(by_way, one.device, one.dram_gb, named)]
    return "\n\n".join([*parts, _found(by_way)])


def _setting(first: Point, about: dict[str, Any]) -> str:
    setting = first.setting
    return (
        f"{setting.model_title}, {setting.windows:g} windows of {setting.window_tokens:g} tokens "
        f"of {setting.text_title}; dense perplexity {first.ppl_dense:.2f}. "
        f"{about['machine']['cpu']}; torch {about['versions']['torch']}. "
        "`python -m benchmarks.cache_shares RUN`."
    )


def _table(by_way: dict[str, list[Point]], device: str, dram: float, named: list[str]) -> str:
    lines = []
    for name in named:
        for way, members in by_way.items():
            there = [p for p in members if (p.setting.device, p.setting.dram_gb) == (device, dram)]
            point = next(p for p in there if configuration(p) == name)
            lines.append(
                [
                    name,
                    way,
                    f"{point.delta_ppl:.2f}",
                    f"{point.delta_ppl_low:.2f} to {point.delta_ppl_high:.2f}",
                    f"{point.gain:.2f} ×",
                    f"{point.reads_per_token:,.0f}",
                    f"{point.wasted:.0%}",
                    f"{point.hit_rate:.2f}",
                ]
            )
    columns = ["configuration", "cache", "ΔPPL", "interval", "by the reads", "reads/token"]
    return table([*columns, "wasted", "hit rate"], lines)


def _found(by_way: dict[str, list[Point]]) -> str:
    every = [(p, way) for way, members in by_way.items() for p in members if not p.dense]
    best, way = max(
        ((p, way) for p, way in every if p.delta_ppl <= 0.05 * p.ppl_dense),
        key=lambda pair: pair[0].gain,
    )
    return (
        f"The fastest within +5 % is {configuration(best)} with the cache shared {way}, on "
        f"{best.setting.device}: {best.gain:.2f} times dense."
    )


def main() -> None:
    """Run and write the part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_shares", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the runs and their store")
    text = report(parser.parse_args().out)
    print(text)
    print("written to", write_part("storage-shares", text, PAGE))


if __name__ == "__main__":
    main()
