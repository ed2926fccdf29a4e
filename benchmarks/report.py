"""The report of 10,000 points: how long it takes to write, how large it is, how soon it is open.

python -m benchmarks report

The points are made up but whole: every one has counts of its own, as a run of 10,000 distinct
configurations would, so this is the worst case for the size of the page.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import reports
from benchmarks.results import machine, table
from reports.findings.pricing import parse, tokens_per_s
from reports.pages.page_counts import counts_document, packed
from reports.reading.run import load

POINTS, SETTINGS, LAYERS, TOKENS = 10_000, 4, 30, 2048
GROUPS = {"input": (576, 1584.0), "intermediate": (1536, 297.0)}
STATIC, FLASH, DRAM = 5.1e7, 1.0, 60.0
LARGEST_MB, SLOWEST_WRITE_S, SLOWEST_OPEN_S = 15, 20, 3
OPENED = 3


def report() -> str:
    """Seconds to write, megabytes, and seconds until a browser has drawn the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(made_up(), folder / "results.parquet")
        begin = time.process_time()
        page = reports.build(folder, ["html"])["html"]
        written = time.process_time() - begin
        size = page.stat().st_size / 1e6
        counts = len(packed(counts_document(load(folder)))) / 1e6
        opened = _opened(page)
    rows = [
        ["written, CPU s", f"{written:.1f}", f"< {SLOWEST_WRITE_S}"],
        ["file, MB", f"{size:.1f}", f"< {LARGEST_MB}"],
        ["of which counts, MB", f"{counts:.1f}", ""],
        *_open_rows(opened),
    ]
    head = (
        f"`report.html` of {POINTS:,} points, each with counts of its own, on {machine()}. Opening"
        " is from navigation until the decision and the first chart are drawn, median of"
        f" {OPENED} in headless Chromium; the counts are unpacked after that."
    )
    return f"## Report\n\n{head}\n\n{table(['figure', 'measured', 'target'], rows)}"


def _open_rows(opened: list[tuple[float, float]]) -> list[list[str]]:
    if not opened:
        return [["opened, s", "no Chromium here", f"< {SLOWEST_OPEN_S}"]]
    drawn, priced = (median(column) for column in zip(*opened, strict=True))
    return [
        ["opened, s", f"{drawn:.2f}", f"< {SLOWEST_OPEN_S}"],
        ["one move of a slider, ms", f"{priced:.0f}", ""],
    ]


def _opened(page: Path) -> list[tuple[float, float]]:
    """Seconds until drawn, and milliseconds of pricing and drawing all anew, for each opening."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return []
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait

    openings: list[tuple[float, float]] = []
    for _ in range(OPENED):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options=options, service=service) as driver:
            driver.get(page.as_uri())
            wait = WebDriverWait(driver, 60)
            ready = "return document.documentElement.dataset.counts === 'yes'"
            wait.until(lambda d, ready=ready: d.execute_script(ready))
            drawn = "return performance.getEntriesByName('drawn')[0].startTime"
            move = (
                "const t = performance.now(); document.getElementById('w-flash').value = '1.7';"
                "changeDevice(); return performance.now() - t;"
            )
            openings.append((driver.execute_script(drawn) / 1000, driver.execute_script(move)))
    return openings


def made_up() -> pa.Table:
    """A results table of distinct configurations with true speeds for their counts."""
    rng = np.random.default_rng(0)
    rows = [_row(i, rng) for i in range(POINTS)]
    return pa.Table.from_pylist(rows, schema=reports.schema())


def _row(i: int, rng: np.random.Generator) -> dict[str, object]:
    setting, dense = i % SETTINGS, i < SETTINGS
    density = 1.0 if dense else float(np.round(rng.uniform(0.4, 0.98), 4))
    policy = "none" if dense else ("lru", "lfu")[i % 2]
    counts = {} if dense else {n: _counts(n, density, policy, rng) for n in GROUPS}
    reads = json.dumps(counts)
    pruned = sum(units * size * LAYERS for units, size in GROUPS.values())
    static, dram_gb = STATIC + (pruned if dense else 0), 0.064 + 0.004 * setting
    device = (dram_gb * 1e9, FLASH * 1e9, DRAM * 1e9, "overlap")
    delta = 0.0 if dense else float(2 * (1 - density) ** 2 * rng.uniform(0.8, 1.4))
    return {
        "sweep": "made-up",
        "point_key": f"{i:016x}",
        "model": "made-up",
        "quant": "4 bit",
        "method": "dense" if dense else ("dip", "up", "glu")[i % 3],
        "selector": "topk",
        "density": density,
        "mlp_density": density,
        "gamma": 1.0,
        "allocation": None,
        "policy": policy,
        "device": "phone",
        "dram_gb": dram_gb,
        "flash_gbps": FLASH,
        "dram_gbps": DRAM,
        "cache_fraction": 0.4,
        "ppl": 10 + delta,
        "ppl_dense": 10.0,
        "delta_ppl": delta,
        "delta_ppl_low": delta * 0.9,
        "delta_ppl_high": delta * 1.1,
        "hit_rate": float(rng.uniform(0.3, 0.7)),
        "flash_bytes_per_token": float(rng.uniform(1e7, 3e7)),
        "dram_bytes_per_token": 8.8e7,
        "tokens_per_s": tokens_per_s(parse(reads) or (), static, *device),
        "tokens_per_s_dense": tokens_per_s((), STATIC + pruned, *device),
        "overhead_bytes": 0.0,
        "tokens": TOKENS,
        "seed": 0,
        "status": "done",
        "error": "",
        "timing": "overlap",
        "cache_start": "empty",
        "cache_scope": "window",
        "window_tokens": TOKENS,
        "windows": 1,
        "text": "made-up",
        "dtype": "float32",
        "static_bytes": static,
        "reads": reads,
        "task_keys": json.dumps([f"{i * 7919 + k:016x}" for k in range(4)]),
    }


def _counts(name: str, density: float, policy: str, rng: np.random.Generator) -> dict[str, object]:
    """Counts of one group, shaped as those of a real run: misses spread around their mean."""
    units, size = GROUPS[name]
    used, tokens = int(density * units), TOKENS * LAYERS
    hit = float(rng.uniform(0.4, 0.6))
    middle, width = used * (1 - hit), used * 0.015
    missed = np.arange(max(0, int(middle - 3.5 * width)), min(used, int(middle + 3.5 * width)) + 1)
    weight = np.exp(-0.5 * ((missed - middle) / width) ** 2)
    count = np.maximum(1, rng.poisson(tokens * weight / weight.sum()))
    count[missed.size // 2] += tokens - count.sum()
    share = np.linspace(0, 1, 101)
    curve = used * tokens * (share ** rng.uniform(0.85, 0.99) + rng.normal(0, 5e-7, 101))
    hits = used * TOKENS * (hit + rng.normal(0, 0.002, LAYERS))
    return {
        "units": units,
        "layers": LAYERS,
        "unit_bytes": size,
        "slots": int(0.4 * units),
        "phases": {
            "used": [used] * missed.size,
            "missed": missed.tolist(),
            "count": count.tolist(),
        },
        "used_by_layer": [used * TOKENS] * LAYERS,
        "hits_by_layer": hits.round().astype(int).tolist(),
        "hits_by_percent": _rising(curve) if policy == "lru" else [],
    }


def _rising(values: NDArray[np.float64]) -> list[int]:
    return np.maximum.accumulate(values.round().astype(int).clip(0)).tolist()
