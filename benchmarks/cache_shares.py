"""Caches of unequal shares by the reads of a phone: down to one group resident, the other streamed.

    sweep run storage-shares -f benchmarks/storage.yaml
    python -m benchmarks.cache_shares runs/storage-shares

writes a part of docs/storage.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.results import table, write_part
from benchmarks.storage import PAGE
from reports.findings.points import Point, by_setting, configuration, points
from reports.results import read_table, rows

WAYS = {
    "input 0, intermediate 1": "units first",
    "input 0.3333, intermediate 0.6667": "a third",
    "": "by bytes",
    "input 1, intermediate 0": "inputs first",
}
"""What the column `cache_shares` has, by the name that it goes by here."""
_ABOUT = (
    "The cache holds the units that the calibration text uses most, in the layout `hot`; what "
    "differs is how much of its bytes each group gets. *By bytes* is as everywhere else; *units "
    "first* has all of W_down in DRAM before any column of W_up and W_gate, *inputs first* the "
    "other way round. Speeds are over dense; ΔPPL differs where masks know the cache."
)


def report(run: Path) -> str:
    """The part about unequal shares, of a finished run of `storage-shares`."""
    members = points(rows(read_table(run / "results.parquet")))
    about = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    parts = ["## Unequal shares of the cache", _setting(members[0], about), _ABOUT]
    for one, of_setting in by_setting(members).items():
        parts += [f"{one.device}, {one.dram_gb * 1000:g} MB of DRAM:", _table(of_setting)]
    return "\n\n".join([*parts, _found(members)])


def _setting(first: Point, about: dict[str, Any]) -> str:
    setting = first.setting
    return (
        f"{setting.model_title}, {setting.windows:g} windows of {setting.window_tokens:g} tokens "
        f"of {setting.text_title}; dense perplexity {first.ppl_dense:.2f}. "
        f"{about['machine']['cpu']}; torch {about['versions']['torch']}. "
        "`python -m benchmarks.cache_shares RUN`."
    )


def alike(point: Point) -> str:
    """The configuration, whatever its groups get of the cache."""
    return configuration(replace(point, cache_shares=""))


def _table(members: list[Point]) -> str:
    ways = list(WAYS)
    pruned = [p for p in members if not p.dense]
    names = list(dict.fromkeys(map(alike, pruned)))
    pruned.sort(key=lambda p: (names.index(alike(p)), ways.index(p.cache_shares)))
    lines = [
        [
            alike(point),
            WAYS[point.cache_shares],
            f"{point.delta_ppl:.2f}",
            f"{point.delta_ppl_low:.2f} to {point.delta_ppl_high:.2f}",
            f"{point.gain:.2f} ×",
            f"{point.reads_per_token:,.0f}",
            f"{point.wasted:.0%}",
            f"{point.hit_rate:.2f}",
        ]
        for point in pruned
    ]
    columns = ["configuration", "cache", "ΔPPL", "interval", "by the reads", "reads/token"]
    return table([*columns, "wasted", "hit rate"], lines)


def _found(members: list[Point]) -> str:
    within = [p for p in members if not p.dense and p.delta_ppl <= 0.05 * p.ppl_dense]
    best = max(within, key=lambda p: p.gain)
    return (
        f"The fastest within +5 % is {alike(best)} with the cache shared "
        f"{WAYS[best.cache_shares]}, on {best.setting.device}: {best.gain:.2f} times dense."
    )


def main() -> None:
    """Write the part of the run folder given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_shares", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of storage-shares")
    text = report(parser.parse_args().run)
    print(text)
    print("written to", write_part("storage-shares", text, PAGE))


if __name__ == "__main__":
    main()
