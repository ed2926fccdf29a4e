"""Speed of what makes reads of misses, and of masks at a price of reads: one core, CPU time.

python -m benchmarks reads
"""

from __future__ import annotations

import numpy as np

import simulator
from benchmarks.activations import made_up
from benchmarks.kernels import CACHED, READ_WORTH, UNIT_BYTES, best
from benchmarks.results import machine, table
from simulator.coactive import coactive

READS_AT_LEAST, TOKEN_AT_MOST_US = 200, 150
_ABOUT = (
    "One core of {machine}; CPU time, the best of at least twenty runs. Scores made up in the "
    "sizes of Phi-3-Medium, caches of 40 % of the units under lfu, reads of 18,546 bytes a unit by "
    "13.9 µs + bytes / 2.95 GB/s, or by the table of oneplus-15r."
)


def report() -> str:
    """All measurements as Markdown."""
    rows = [row for units in (5120, 17920) for row in _rows(units)]
    columns = ["what", "units", "M unit-tokens/s", "µs a token", "target", "met"]
    about = _ABOUT.format(machine=machine())
    return "\n\n".join(["## Reads", about, table(columns, rows), _order()])


def _rows(units: int) -> list[list[str]]:
    values = made_up(units).values
    tokens, slots = len(values), int(CACHED * units)
    packed = simulator.select(values, units // 2).packed
    missed = simulator.miss_masks(packed, slots, "lfu", units=units)
    phone = simulator.Device.load("oneplus-15r").read_cost()
    assert phone is not None
    law = simulator.ReadCost(latency_us=13.9, gbps=2.95)
    rows: list[list[str]] = []
    for name, cost in (("affine law", law), ("a phone's table", phone)):
        seconds = best(lambda c=cost: simulator.reads(missed, UNIT_BYTES, c, units=units), 20, 2)
        speed = values.size / seconds / 1e6
        met = name == "affine law" and _met(speed >= READS_AT_LEAST)
        target = f"at least {READS_AT_LEAST} M/s" if met else ""
        told = [f"{speed:.0f}", f"{seconds / tokens * 1e6:.1f}"]
        rows.append([f"`reads`, {name}", f"{units:,}", *told, target, met or ""])
    for name, cost in (("affine law", law), ("a phone's table", phone)):
        lam = READ_WORTH / cost(UNIT_BYTES)

        def choose(cost: simulator.ReadCost = cost, lam: float = lam) -> object:
            return simulator.read_aware(values, UNIT_BYTES, cost, lam)

        seconds = best(choose, 20, 2)
        micros = seconds / tokens * 1e6
        asked = name == "affine law" and units == 5120
        target = f"at most {TOKEN_AT_MOST_US} µs" if asked else ""
        told = [f"{values.size / seconds / 1e6:.0f}", f"{micros:.1f}"]
        met = _met(micros <= TOKEN_AT_MOST_US) if asked else ""
        rows.append([f"`read_aware`, {name}", f"{units:,}", *told, target, met])
    return rows


def _met(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _order() -> str:
    """Time of an order of units used together, of one layer."""
    masks = np.random.default_rng(0).random((2048, 5120)) < 0.5
    seconds = best(lambda: coactive([masks]), 1, 0)
    return (
        f"An order of 5,120 units used together, from 2,048 tokens: {seconds:.1f} s a layer "
        "(random masks, which are the slowest)."
    )


if __name__ == "__main__":
    print(report())
