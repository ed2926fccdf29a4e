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

THREADS, WINDOW_TOKENS, ROUNDS, DENSITY, DRAM_GB = 1, 1024, 41, 0.5, 0.064
AT_MOST = {"dip": 1.08, "dip-ca": 1.10}


def report() -> str:
    """Ratios of time to the dense evaluation of the same window, at a task's one thread."""
    from sweep.inputs import models

    if not models.present("smollm2-135m"):
        return "## Evaluation\n\nSmolLM2 is not on this machine (`sweep fetch`)."
    rows = _rows(THREADS)
    columns = ["evaluation", "threads", "CPU s", "times dense", "range", "at most", "met"]
    about = (
        f"{machine()}. SmolLM2-135M, float32, a window of {WINDOW_TOKENS} tokens of the embedded "
        f"text, density {DENSITY}; the trace is recorded. CPU time of the process, "
        f"{ROUNDS} rounds of all three in random order; ratios are of runs in one round, "
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
    dense = seconds["dense"]
    rows = []
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, dense, strict=True)]
        middle, limit = statistics.median(ratios), AT_MOST.get(name)
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        verdict = ["", ""]
        if limit:
            verdict = [f"{limit:.2f}", "yes" if middle <= limit else "**no**"]
        cpu = f"{min(times):.2f} to {max(times):.2f}"
        rows.append([name, str(threads), cpu, f"{middle:.3f}", spread, *verdict])
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

    def run(method: str, selector: dict[str, object]) -> Callable[[], object]:
        density = 1.0 if method == "dense" else DENSITY
        payload: Any = shared | {"method": method, "density": density, "parameters": {}}
        return lambda: evaluate(payload | {"selector": selector}, where, {}, "cpu")

    return {
        "dense": run("dense", {}),
        "dip": run("dip", {"name": "topk"}),
        "dip-ca": run("dip", cache),
    }
