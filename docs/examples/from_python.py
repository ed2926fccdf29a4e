"""A sweep from Python, without a sweep file: `python docs/examples/from_python.py`."""

from __future__ import annotations

from typing import Any

import pandas as pd

import sweep


def question(model: str, text: str, calibration: str, dram_gb: float) -> dict[str, Any]:
    """What a sweep file would say: is it worth it to prefer what is cached?"""
    return {
        "models": [model],
        "text": text,
        "calibration": calibration,
        "windows": 2,
        "window_tokens": 256,
        "methods": ["dense", {"method": "dip", "density": [0.7, 0.8, 0.9], "gamma": [0.2, 1]}],
        "devices": [{"device": "apple-a18", "dram_gb": dram_gb, "flash_gbps": 1}],
        "policies": "lfu",
    }


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """What each configuration costs in perplexity, and what it gains in speed."""
    gain = table["tokens_per_s"] / table["tokens_per_s_dense"]
    columns = ["series", "density", "gamma", "delta_ppl", "tokens_per_s"]
    return table[columns].assign(gain=gain).sort_values("gain", ascending=False)


def main(
    model: str = "smollm2-135m",
    text: str = "embedded-wiki",
    calibration: str = "embedded-c4",
    dram_gb: float = 0.07,
    **options: Any,
) -> pd.DataFrame:
    """Run it, or what is missing of it. `options` are those of `sweep.run`, as `workers=0`."""
    spec = {"sweeps": {"question": question(model, text, calibration, dram_gb)}}
    return gains(sweep.run(spec, "question", **options))


if __name__ == "__main__":
    print(main().to_string(index=False))
