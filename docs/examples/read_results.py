"""Read results.parquet with pandas: `python docs/examples/read_results.py runs/demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

SETTING = ["model", "quant", "device", "dram_gb", "flash_gbps"]


def measured(run: Path) -> pd.DataFrame:
    """The points that could be shipped: measured, and not a bound that knows the future."""
    table = pd.read_parquet(run / "results.parquet")
    return table.loc[(table["status"] == "done") & ~table["bound"]]


def fastest(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """In each device setting, the fastest whose perplexity is within `share` of the dense one's."""
    within = table[table["delta_ppl"] <= share * table["ppl_dense"]]
    best = within.groupby(SETTING)["tokens_per_s"].idxmax()
    columns = [*SETTING, "series", "density", "gamma", "policy", "tokens_per_s"]
    return within.loc[best, columns]


def hit_rates(point: pd.Series) -> pd.DataFrame:
    """Hits over used units of one point, a row each layer, a column each group of weights."""
    groups = json.loads(str(point["reads"]))  # counts, from which any other device can be priced
    return pd.DataFrame(
        {
            name: pd.Series(counts["hits_by_layer"]) / pd.Series(counts["used_by_layer"])
            for name, counts in groups.items()
        }
    )


if __name__ == "__main__":
    points = measured(Path(sys.argv[1]))
    choices = fastest(points, 0.05)
    print(choices.to_string(index=False))
    for place in choices.index:
        print(hit_rates(points.loc[place]).round(3).to_string())
