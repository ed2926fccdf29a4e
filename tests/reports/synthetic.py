"""Made-up but realistic results tables and run folders, for the tests of `reports`.

Numbers follow the shape of the real ones: ΔPPL grows as density falls, cache-aware points trade a
little perplexity for a much higher hit rate, throughput comes from bytes over bandwidth.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import reports

Row = dict[str, Any]
MLP_BYTES = 41.1e6
STATIC_BYTES = 37.5e6
PPL_DENSE = 15.2334

# method: (lowest density, scale of ΔPPL, steepness)
METHODS = {
    "glu": (0.67, 0.9, 6.0),
    "glu-oracle": (0.3, 0.02, 5.5),
    "gate": (0.4, 1.6, 5.0),
    "up": (0.4, 0.55, 5.0),
    "dip": (0.3, 0.25, 5.4),
}
LOCALITY = {"none": 0.0, "lru": 1.05, "lfu": 1.09, "belady": 1.32}


@dataclass(frozen=True)
class Shape:
    """The axes of a table; the default is what a shipped demo sweep has."""

    models: Sequence[str] = ("smollm2-135m",)
    densities: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9)
    gammas: Sequence[float] = (0.1, 0.2, 0.5)
    dram_gb: Sequence[float] = (0.05, 0.06)
    flash_gbps: Sequence[float] = (0.5, 1.0, 2.0)
    policies: Sequence[str] = ("none", "lfu", "lru", "belady")
    allocations: Sequence[str] = ("paper", "uniform")


def table(shape: Shape = Shape(), seed: int = 0, flaws: bool = True) -> pa.Table:
    """A results table; `flaws` adds failed and missing rows, NaN figures and exact ties."""
    found = list(_rows(shape, np.random.default_rng(seed)))
    if flaws:
        _spoil(found)
    return to_table(found)


def to_table(found: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table of the reports schema; absent keys become null."""
    return pa.Table.from_pylist([dict(row) for row in found], schema=reports.SCHEMA)


def _rows(shape: Shape, rng: np.random.Generator) -> Iterator[Row]:
    for model in shape.models:
        for dram in shape.dram_gb:
            for flash in shape.flash_gbps:
                yield _row(model, dram, flash, "dense", "topk", 1.0, 1.0, "", "none", rng)
                for method, selector, density, gamma, allocation, policy in _axes(shape):
                    yield _row(
                        model,
                        dram,
                        flash,
                        method,
                        selector,
                        density,
                        gamma,
                        allocation,
                        policy,
                        rng,
                    )


def _axes(shape: Shape) -> Iterator[tuple[str, str, float, float, str, str]]:
    for method, (low, _, _) in METHODS.items():
        allocations = shape.allocations if method == "dip" else ("",)
        for density in (d for d in shape.densities if d >= low):
            for allocation in allocations:
                for policy in shape.policies:
                    yield method, "topk", density, 1.0, allocation, policy
                if method == "dip":
                    for gamma in shape.gammas:
                        yield method, "cache-aware", density, gamma, allocation, "lfu"


def _row(
    model: str,
    dram: float,
    flash: float,
    method: str,
    selector: str,
    density: float,
    gamma: float,
    allocation: str,
    policy: str,
    rng: np.random.Generator,
) -> Row:
    aware = selector == "cache-aware"
    delta = _delta(method, density, gamma if aware else 1.0, allocation)
    fraction = min(1.0, max(0.0, dram * 1e9 - STATIC_BYTES) / MLP_BYTES)
    hit = min(1.0, fraction * LOCALITY.get(policy, 1.0))
    hit = min(0.98, hit + 0.30 * (1 - gamma) ** 0.6 * (1 - fraction)) if aware else hit
    hit = fraction if method == "dense" else hit
    flash_bytes = MLP_BYTES * density * (1 - hit)
    dram_bytes = STATIC_BYTES + MLP_BYTES * density
    per_second = 1 / max(flash_bytes / (flash * 1e9), dram_bytes / 60e9)
    dense_flash = MLP_BYTES * (1 - fraction)
    width = 0.015 + 0.12 * delta * rng.uniform(0.6, 1.4)
    identity = [model, dram, flash, method, selector, density, gamma, allocation, policy]
    return {
        "sweep": "demo",
        "point_key": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16],
        "model": model,
        "quant": "4 bit",
        "method": method,
        "selector": selector,
        "density": density,
        "mlp_density": density - 0.0007 if method != "dense" else 1.0,
        "gamma": gamma,
        "allocation": allocation,
        "policy": policy,
        "device": "apple-a18",
        "dram_gb": dram,
        "flash_gbps": flash,
        "dram_gbps": 60.0,
        "cache_fraction": fraction,
        "ppl": PPL_DENSE + delta,
        "ppl_dense": PPL_DENSE,
        "delta_ppl": delta,
        "delta_ppl_low": delta - width if delta else 0.0,
        "delta_ppl_high": delta + width if delta else 0.0,
        "hit_rate": hit,
        "flash_bytes_per_token": flash_bytes,
        "dram_bytes_per_token": dram_bytes,
        "tokens_per_s": per_second,
        "tokens_per_s_dense": 1
        / max(dense_flash / (flash * 1e9), (STATIC_BYTES + MLP_BYTES) / 60e9),
        "overhead_bytes": 0.0,
        "tokens": 4094,
        "seed": 0,
        "status": "done",
        "error": None,
        "timing": "overlap",
        "cache_start": "empty",
        "cache_scope": "window",
        "window_tokens": 2048,
        "windows": 2,
        "text": "embedded-wiki",
        "dtype": "float32",
        "geometry": model,
        "static_bytes": STATIC_BYTES,
        "resident_bytes": STATIC_BYTES,
        "excess_bytes": 0.0,
        "reads": "{}",
        "task_keys": json.dumps(["evaluate-" + hashlib.sha256(method.encode()).hexdigest()[:12]]),
    }


def _delta(method: str, density: float, gamma: float, allocation: str) -> float:
    if method == "dense":
        return 0.0
    _, scale, steep = METHODS[method]
    worse = 1.25 if allocation == "uniform" else 1.0
    aware = 1 + 0.35 * (1 - gamma) ** 2
    return scale * worse * aware * (math.exp(steep * (1 - density)) - 1)


FIGURES = (
    *("ppl", "ppl_dense", "delta_ppl", "delta_ppl_low", "delta_ppl_high", "hit_rate"),
    *("flash_bytes_per_token", "dram_bytes_per_token", "tokens_per_s", "tokens_per_s_dense"),
)
NASTY = "<b>bold</b> & $x_1$ | `tick` </script><script>window.hacked=1</script> [a](b) *s*"


def _spoil(found: list[Row]) -> None:
    """Every 37th point failed, every 41st is missing, one has NaN, two tie exactly."""
    for i, row in enumerate(found):
        if row["method"] == "dense":
            continue
        if i % 37 == 5:
            _blank(row, "failed", f"RuntimeError: out of memory in layer {i % 30}\n{NASTY}")
        elif i % 41 == 7:
            _blank(row, "missing", "not run yet")
    done = [row for row in found if row["status"] == "done" and row["method"] == "dip"]
    done[0]["delta_ppl_high"] = math.nan
    done[2]["tokens_per_s"] = done[3]["tokens_per_s"]
    done[2]["delta_ppl"] = done[3]["delta_ppl"]


def _blank(row: Row, status: str, error: str) -> None:
    row.update(dict.fromkeys(FIGURES, math.nan), status=status, error=error)


BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")


def plan(points: int, budgets: Sequence[str] = BUDGETS) -> Row:
    return {
        "sweep": "demo",
        "budgets": list(budgets),
        "points": points,
        "tasks": {"calibrate": 1, "evaluate": 42, "simulate": 180},
        "skipped": [
            {"reason": "density out of reach of glu: below 0.667", "points": 48},
            {"reason": "cache-aware selection needs an online policy, not belady", "points": 60},
        ],
        "why": {"new": 120, "already done": 103},
    }


def provenance() -> Row:
    return {
        "command": "sweep run demo",
        "started": "2026-03-01T10:00:00+00:00",
        "finished": "2026-03-01T10:07:41+00:00",
        "seconds": 461.2,
        "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": {"cpu": "x86-64", "cores": 2, "memory_gb": 23.6, "gpus": []},
        "spec": {"models": ["smollm2-135m"], "methods": ["dense", {"method": NASTY}]},
        "models": {"smollm2-135m": {"sha256": "ab" * 32}},
        "texts": {"embedded-wiki": {"sha256": "cd" * 32}},
        "tasks": {"done": 120, "reused": 103, "failed": 6},
        "seconds_by_kind": {"calibrate": 8.1, "evaluate": 402.5, "simulate": 50.6},
        "notes": [
            (
                "A small model: absolute budgets that suit a 14B model are strict for it, so read"
                " the relative ones."
            ),
            "Two windows of text: intervals are rough.",
        ],
    }


def run_folder(
    folder: Path, results: Any = None, documents: bool = True, budgets: Sequence[str] = ()
) -> Path:
    """Write a run folder as `sweep` leaves it; returns `folder`."""
    results = table() if results is None else results
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(results, folder / "results.parquet")
    if documents:
        (folder / "plan.json").write_text(json.dumps(plan(results.num_rows, budgets or BUDGETS)))
        (folder / "provenance.json").write_text(json.dumps(provenance()))
    return folder


def big(rows: int = 10_000) -> pa.Table:
    """A table of about `rows` points in the shape of a dense study."""
    densities = tuple(float(d) for d in np.round(np.linspace(0.3, 0.99, 60), 4))
    shape = Shape(
        densities=densities, gammas=tuple(np.round(np.linspace(0.05, 0.9, 6), 3).tolist())
    )
    return table(shape, flaws=True).slice(0, rows)
