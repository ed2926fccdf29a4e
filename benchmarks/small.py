"""The order of the methods on a small model, beside the order that the paper prints.

    sweep run small-results --out runs/small-results
    python -m benchmarks.small runs/small-results

writes the tables of docs/results-small.md; what is said about them there is written by hand.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.results import table, write_part
from reports.paper.published import published

PAGE = Path(__file__).parents[1] / "docs" / "results-small.md"
_HEAD = "# Small model, all methods\n"
PRINTED = {0.5: "table1", 0.7: "table3"}
"""Which table of the paper has the density next to ours: 0.5, and 0.6 for our 0.7."""
_PAPER_MODELS = ("phi-3-medium", "mistral-7b")

Row = dict[str, Any]


def report(run: Path) -> str:
    """The Markdown of a finished run of `small-results`."""
    rows = [_labelled(row) for row in pq.read_table(run / "results.parquet").to_pylist()]
    about = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    pruned = [row for row in rows if row["quant"] == "4 bit"]
    changed = [row for row in rows if row["quant"] != "4 bit"]
    parts = [_setting(rows[0], about)]
    for density, exhibit in PRINTED.items():
        parts += [f"## At {density:.0%} MLP density", _order(pruned, density, exhibit)]
    parts += ["## Weights changed once", _changed(changed)]
    parts += ["## What was to be shown", _claims(pruned, changed)]
    return "\n\n".join(parts)


def _labelled(row: Row) -> Row:
    """The row with the paper's name for its line: the method, and its pattern if it has one."""
    pattern = json.loads(row["parameters"]).get("pattern", "")
    return row | {"label": f"{row['method']} {pattern}".strip()}


def _setting(row: Row, about: dict[str, Any]) -> str:
    machine, versions = about["machine"], about["versions"]
    return (
        f"{row['model']}, {row['windows']} windows of {row['window_tokens']} tokens of WikiText-2 "
        f"({row['tokens']} tokens), {row['dtype']}, seed {row['seed']}; dense perplexity "
        f"{row['ppl_full']:.2f}. Calibrated and trained on embedded web pages. "
        f"{machine['cpu']}, {machine['cores']} cores; torch {versions['torch']}, transformers "
        f"{versions['transformers']}. Intervals: 95 %, paired bootstrap over windows."
    )


def _order(rows: list[Row], density: float, exhibit: str) -> str:
    """Methods from the best on, and how far the paper's models agree."""
    own = sorted((r for r in rows if r["density"] == density), key=lambda r: r["ppl"])
    printed = {model: _printed(exhibit, model) for model in _PAPER_MODELS}
    columns = ["method", "perplexity", "ΔPPL", "interval", "density used", "extra MB"]
    columns += [f"{exhibit.replace('table', 'Table ')}, {model}" for model in printed]
    lines = [[*_figures(row), *_beside(row["label"], printed)] for row in own]
    ours = {row["label"]: row["ppl"] for row in own}
    agreement = [_agreement(ours, model, values) for model, values in printed.items()]
    return "\n\n".join([table(columns, lines), *agreement])


def _printed(exhibit: str, model: str) -> dict[str, float]:
    wanted = (exhibit, model, "ppl")
    return {p.method: p.value for p in published() if (p.exhibit, p.model, p.metric) == wanted}


def _figures(row: Row) -> list[str]:
    low, high, extra = row["delta_ppl_low"], row["delta_ppl_high"], row["overhead_bytes"] / 1e6
    return [
        row["label"],
        f"{row['ppl']:.2f}",
        f"{row['delta_ppl']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{row['mlp_density']:.3f}",
        f"{extra:.1f}" if extra else "",
    ]


def _beside(label: str, printed: dict[str, dict[str, float]]) -> list[str]:
    return [f"{values[label]:.2f}" if label in values else "" for values in printed.values()]


def _agreement(ours: dict[str, float], model: str, printed: dict[str, float]) -> str:
    """How many pairs of methods order as printed, and which do not."""
    pairs = list(combinations([name for name in ours if name in printed], 2))
    other = [f"{a} before {b}" for a, b in pairs if printed[a] > printed[b]]
    text = f"{len(pairs) - len(other)} of {len(pairs)} pairs of methods order as for {model}."
    return text + (f" Here, and not there: {'; '.join(other)}." if other else "")


def _changed(rows: list[Row]) -> str:
    lines = [[row["quant"], f"{row['ppl']:.2f}", f"{row['ppl_full']:.2f}"] for row in rows]
    return table(["weights", "perplexity", "of the weights as they were"], lines)


def _claims(pruned: list[Row], changed: list[Row]) -> str:
    """Each statement with its two perplexities."""
    ppl = {(row["label"], row["density"]): row["ppl"] for row in pruned}
    three = {q["quant"].split()[0]: q["ppl"] for q in changed if " 3 bit" in q["quant"]}
    pairs = [
        (f"the oracle beats the predictor at {d:.0%}", ppl["glu-oracle", d], ppl["dejavu", d])
        for d in PRINTED
    ]
    pairs += [
        (f"LoRA lowers {m.upper()} at 50%", ppl[f"{m}+lora", 0.5], ppl[m, 0.5])
        for m in ("dip", "cats")
    ]
    pairs += [
        (f"SparseGPT beats {m} at 2:4", ppl["sparsegpt 2:4", 0.5], ppl[f"{m} 2:4", 0.5])
        for m in ("wanda", "magnitude")
    ]
    pairs += [("GPTQ beats round-to-nearest at 3 bits", three["gptq"], three["rtn"])]
    lines = [[what, f"{a:.2f}", f"{b:.2f}", "yes" if a < b else "**no**"] for what, a, b in pairs]
    return table(["", "perplexity", "against", "so it is"], lines)


def main() -> None:
    """Write the page of the run folder given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of small-results")
    text = report(parser.parse_args().run)
    print(text)
    print("written to", write_part("results", text, PAGE, _HEAD))


if __name__ == "__main__":
    main()
