"""Rows of runs with a downstream task, for the tests of accuracy beside perplexity."""

from __future__ import annotations

from typing import Any

from reports.results import Row, with_facts

BASE: dict[str, Any] = {
    "sweep": "s",
    "model": "m",
    "quant": "4 bit",
    "selector": "topk",
    "gamma": 1.0,
    "allocation": "paper",
    "policy": "none",
    "device": "phone",
    "dram_gb": 2.0,
    "flash_gbps": 1.0,
    "dram_gbps": 60.0,
    "ppl_dense": 10.0,
    "tokens_per_s_dense": 1.0,
    "tokens_per_s": 2.0,
    "status": "done",
    "error": "",
    "text": "t",
    "windows": 4,
    "window_tokens": 64,
    "dtype": "float32",
    "timing": "overlap",
    "cache_start": "empty",
    "cache_scope": "window",
}


def row(
    key: str, method: str, density: float, ppl: float, acc: float, **more: Any
) -> dict[str, Any]:
    measured = {"ppl": ppl, "delta_ppl": ppl - 10.0, "acc_mmlu": acc, "acc_mmlu_stderr": 0.01}
    own = {"point_key": key, "method": method, "density": density, "mlp_density": density}
    return BASE | own | measured | {"acc_mmlu_dense": 0.60} | more


def rows_of(*rows: Row) -> list[Row]:
    """These rows after one of the dense model."""
    return with_facts([row("0", "dense", 1.0, 10.0, 0.60), *rows])
