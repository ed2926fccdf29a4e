"""What pruning adds to an evaluation: the real model, dense and pruned in turn, window by window.

python -m benchmarks evaluation
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.results import machine, table

DISTANCES = "dip with distances"
THREADS, WINDOW_TOKENS, ROUNDS, DENSITY, DRAM_GB = 1, 1024, 41, 0.5, 0.064
AT_MOST = {"dip": ("dense", 1.08), "dip-ca": ("dense", 1.10), DISTANCES: ("dip", 1.05)}
"""Of an evaluation, another one and the most times of its time that it may take."""


def report() -> str:
    """Ratios of time to the dense evaluation of the same window, at a task's one thread."""
    from sweep.inputs import models

    if not models.present("smollm2-135m"):
        return "## Evaluation\n\nSmolLM2 is not on this machine (`sweep fetch`)."
    rows = _rows(THREADS)
    columns = ["evaluation", "threads", "CPU s", "times", "of", "range", "at most", "met"]
    about = (
        f"{machine()}. SmolLM2-135M, float32, a window of {WINDOW_TOKENS} tokens of the embedded "
        f"text, density {DENSITY}; the trace is recorded. CPU time of the process, "
        f"{ROUNDS} rounds of all four in random order, with what dense expects kept for distances; "
        "ratios are of runs in one round, "
        "the median (and the least and most), so that a processor that slows down does so for all."
    )
    return "\n\n".join(["## Evaluation", about, table(columns, rows)])


def _rows(threads: int) -> list[list[str]]:
    runs = _runs(threads)
    for run in runs.values():
        run()  # compiles, and warms the allocator
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(ROUNDS):
        for name in order.sample(list(runs), len(runs)):  # what ran before matters: its memory
            begin = time.process_time()
            runs[name]()
            seconds[name].append(time.process_time() - begin)
    rows = []
    for name, times in seconds.items():
        other, limit = AT_MOST.get(name, ("dense", 0.0))
        ratios = [a / b for a, b in zip(times, seconds[other], strict=True)]
        middle = statistics.median(ratios)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        verdict = ["", ""]
        if limit:
            verdict = [f"{limit:.2f}", "yes" if middle <= limit else "**no**"]
        cpu = f"{min(times):.2f} to {max(times):.2f}"
        rows.append([name, str(threads), cpu, f"{middle:.3f}", other, spread, *verdict])
    return rows


def _runs(threads: int) -> dict[str, Callable[[], object]]:
    """The evaluation of one window, as an accuracy task does it, for each kind."""
    from simulator import Geometry, allocate, footprint
    from sweep.tasks.evaluate import evaluate

    sizes = footprint(Geometry.load("smollm2-135m"), ("input", "intermediate"))
    cache = {"policy": "lfu", "slots": dict(allocate(sizes, DRAM_GB * 1e9).slots)}
    cache |= {"name": "cache-aware", "gamma": 0.2, "scope": "window"}
    shared = {
        "windows": [0],
        "window_tokens": WINDOW_TOKENS,
        "dtype": "float32",
        "threads": threads,
    }

    where: Any = {"model": "smollm2-135m", "text_name": "embedded-wiki"}

    def run(method: str, selector: dict[str, object], **more: object) -> Callable[[], object]:
        density = 1.0 if method == "dense" else DENSITY
        payload: Any = shared | {"method": method, "density": density, "parameters": {}} | more
        return lambda: evaluate(payload | {"selector": selector}, where, {}, "cpu")

    kept = {"dense": f"benchmark-{WINDOW_TOKENS}-{threads}", "weights": ""}
    return {
        "dense": run("dense", {}),
        "dip": run("dip", {"name": "topk"}),
        "dip-ca": run("dip", cache),
        DISTANCES: run("dip", {"name": "topk"}, inputs={}, distances=kept),
    }
