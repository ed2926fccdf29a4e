"""How much faster what one run certifies is than what another does, with what stays open.

    python -m benchmarks.certified runs/near-family-76 runs/near-beyond-76 --store runs/beyond-store
    python -m benchmarks.certified runs/near-family-64 runs/near-beyond-64 \
        --store runs/beyond-store --part certified-64

sets the certain choices of two finished runs of benchmarks/beyond.yaml, on the same windows, beside
each other, and writes a part of docs/beyond-dip-ca.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.field import Row
from benchmarks.results import table, write_part
from reports.findings.certified import Certified
from reports.findings.points import Point, points
from reports.reading import certified
from reports.results import read_table, rows
from sweep.errors import InputError
from sweep.results.perplexity import student_t
from sweep.store.store import Store

PAGE = Path(__file__).parents[1] / "docs" / "beyond-dip-ca.md"
_ABOUT = (
    "Intervals of the ratio: 95 %, by the jackknife over tasks of four windows, in pairs, with the "
    "configurations fixed. *Open*: faster, and neither surely within nor surely beyond."
)
Shards = dict[tuple[int, ...], float]
"""Seconds that a token takes, by the windows of a task."""


class Run:
    """A finished run: what it is certain of, and the tasks behind its points."""

    def __init__(self, folder: Path, store: Store) -> None:
        told = read_table(folder / "results.parquet")
        statement, lacking = certified.read(folder, points(rows(told)))
        if statement is None:
            raise InputError(f"{folder}: {lacking or 'nothing was certified'}")
        self.cells: list[Certified] = list(statement.cells.values())
        self._rows: dict[str, Row] = {row["point_key"]: row for row in told.to_pylist()}
        self._store = store

    def seconds(self, point: Point) -> Shards:
        """Of a token, by task: what Flash takes longer or shorter than for all together."""
        row = self._rows[point.point_key]
        unit_bytes = {name: one["unit_bytes"] for name, one in json.loads(row["reads"]).items()}
        read: Shards = {}
        for key in json.loads(row["task_keys"]):
            record = self._store.records[key]
            if record.kind == "evaluate" and record.result["groups"]:
                missed = sum(
                    unit_bytes[name] * (sum(one["used_by_layer"]) - sum(one["hits_by_layer"]))
                    for name, one in record.result["groups"].items()
                )
                read[tuple(record.payload["windows"])] = missed / record.result["tokens"]
        mean = float(np.mean(list(read.values())))
        whole, per_byte = 1 / row["tokens_per_s"], 1e-9 / row["flash_gbps"]
        return {windows: whole + (one - mean) * per_byte for windows, one in read.items()}


def report(family: Run, ours: Run) -> str:
    """A row for each budget and run, and how much faster the choice of the second is."""
    pairs = list(zip(family.cells, ours.cells, strict=True))
    lines = [line for pair in pairs for line in map(_line, pair)]
    columns = ["perplexity", "certain", "tok/s", "perplexity", "at most", "KL", "open"]
    parts = [_ABOUT, table(columns, lines)]
    sparse = [pair for pair in pairs if not any(_chosen(cell).dense for cell in pair)]
    ratios = [_ratio(*pair, family, ours) for pair in sparse]
    return "\n\n".join([*parts, table(["perplexity", "faster by", "interval"], ratios)])


def _line(cell: Certified) -> list[str]:
    choice = _chosen(cell)
    grown = f"{choice.ppl / choice.ppl_dense - 1:+.2%}"
    certain = [_name(choice), f"{choice.tokens_per_s:.1f}", grown, f"{cell.bound:+.2%}"]
    still_open = "; ".join(map(_open, cell.rivals)) or "none"
    return [cell.budget.label, *certain, f"{choice.kl:.3f}", still_open]


def _chosen(cell: Certified) -> Point:
    if cell.choice is None:
        raise InputError(f"{cell.budget.label}: no choice is certain")
    return cell.choice


def _name(point: Point) -> str:
    if point.dense:
        return "dense"
    if point.method == "dip-shares":
        return f"thresholds, allocated, density {point.density:.3g}"
    if point.selector == "resident-threshold":
        return f"thresholds, density {point.density:g}"
    return f"γ {point.gamma:g}, density {point.density:g}, {point.policy.upper()}"


def _open(point: Point) -> str:
    grown = f"{point.ppl / point.ppl_dense - 1:+.2%}"
    return f"{_name(point)}: {point.tokens_per_s:.1f} tok/s, {grown}"


def _ratio(slow: Certified, fast: Certified, family: Run, ours: Run) -> list[str]:
    before, after = family.seconds(_chosen(slow)), ours.seconds(_chosen(fast))
    if before.keys() != after.keys():
        raise InputError("the two runs have not the same windows")
    times = np.array([(before[windows], after[windows]) for windows in sorted(before)])
    ratio, reach = _jackknife(times)
    return [slow.budget.label, f"{ratio:.3f}", f"{ratio - reach:.3f} to {ratio + reach:.3f}"]


def _jackknife(times: NDArray[np.float64]) -> tuple[float, float]:
    """The ratio of the means of two columns, and half its 95 % interval."""
    count = len(times)
    kept = (times.sum(axis=0) - times) / (count - 1)
    without = kept[:, 0] / kept[:, 1]
    spread = math.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    middle = times.mean(axis=0)
    return float(middle[0] / middle[1]), student_t(count - 1) * spread


def main(arguments: Iterable[str] | None = None) -> None:
    """Write the part of the page that the two runs are of."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certified", description=__doc__)
    parser.add_argument("family", type=Path, help="folder of the run to be beaten")
    parser.add_argument("ours", type=Path, help="folder of the run that may beat it")
    parser.add_argument("--store", type=Path, required=True, help="where the tasks of both are")
    parser.add_argument("--part", default="certified", help="of the page, which is written")
    given = parser.parse_args(None if arguments is None else list(arguments))
    store = Store(given.store)
    text = report(Run(given.family, store), Run(given.ours, store))
    print(text)
    print("written to", write_part(given.part, text, PAGE))


if __name__ == "__main__":
    main()
