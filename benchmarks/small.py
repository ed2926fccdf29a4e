"""The order of the methods on a small model, beside the order that the paper prints.

    sweep run small-results
    python -m benchmarks.small runs/small-results

writes the tables of docs/results-small.md; what is said about them there is written by hand. Runs
of small-figure6 and small-figure9 may be named after it, and give tables of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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


def report(run: Path, more: Sequence[Path] = ()) -> str:
    """The Markdown of a finished run of `small-results`, then of `more` for Figures 6 and 9."""
    rows = _rows(run)
    about = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    pruned = [row for row in rows if row["quant"] == "4 bit"]
    changed = [row for row in rows if row["quant"] != "4 bit"]
    parts = [_setting(rows[0], about)]
    for density, exhibit in PRINTED.items():
        parts += [f"## At {density:.0%} MLP density", _order(pruned, density, exhibit)]
    parts += ["## Weights changed once", _changed(changed)]
    parts += ["## What was to be shown", _claims(pruned, changed)]
    for other in more:
        rows = _rows(other)
        title, make = _MORE[rows[0]["sweep"]]
        parts += [title, f"{_text(rows[0])} of {rows[0]['text']}.", make(rows)]
    return "\n\n".join(parts)


def _rows(run: Path) -> list[Row]:
    return [_labelled(row) for row in pq.read_table(run / "results.parquet").to_pylist()]


def _text(row: Row) -> str:
    return f"{row['windows']} windows of {row['window_tokens']} tokens"


def _labelled(row: Row) -> Row:
    """The row with the paper's name for its line: the method, and its pattern if it has one."""
    pattern = json.loads(row["parameters"]).get("pattern", "")
    return row | {"label": f"{row['method']} {pattern}".strip()}


def _setting(row: Row, about: dict[str, Any]) -> str:
    machine, versions = about["machine"], about["versions"]
    return (
        f"{row['model']}, {_text(row)} of WikiText-2 ({row['tokens']} tokens), {row['dtype']}, "
        f"seed {row['seed']}; dense perplexity {row['ppl_full']:.2f}. Calibrated and trained on "
        "embedded web pages. "
        f"{machine['cpu']}, {machine['cores']} cores; torch {versions['torch']}, transformers "
        f"{versions['transformers']}. Intervals: 95 %, from paired windows."
    )


def _order(rows: list[Row], density: float, exhibit: str) -> str:
    """Methods from the best on, and how far the paper's models agree."""
    ordered = sorted((r for r in rows if r["density"] == density), key=lambda r: r["ppl"])
    printed = {model: _printed(exhibit, model) for model in _PAPER_MODELS}
    columns = ["method", "perplexity", "ΔPPL", "interval", "density used", "extra MB"]
    columns += [f"{exhibit.replace('table', 'Table ')}, {model}" for model in printed]
    lines = [[*_figures(row), *_beside(row["label"], printed)] for row in ordered]
    ours = {row["label"]: row["ppl"] for row in ordered}
    agreement = [_agreement(ours, model, values) for model, values in printed.items()]
    return "\n\n".join([table(columns, lines), *agreement])


def _printed(exhibit: str, model: str) -> dict[str, float]:
    column = (exhibit, model, "ppl")
    return {p.method: p.value for p in published() if (p.exhibit, p.model, p.metric) == column}


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


def _predicted(rows: list[Row]) -> str:
    """Perplexities over that of the same model dense: units known, and predicted."""
    times = {(r["model"], r["method"], r["density"]): r["ppl"] / r["ppl_dense"] for r in rows}
    dense = {r["model"]: r["ppl_dense"] for r in rows}
    lines = [
        [model, f"{dense[model]:.2f}", f"{density:.0%}", f"{oracle:.3f}", f"{guessed:.3f}"]
        for (model, method, density), oracle in times.items()
        if method == "glu-oracle" and (guessed := times.get((model, "dejavu", density)))
    ]
    columns = ["model", "dense perplexity", "density", "oracle, of dense", "predicted, of dense"]
    return table(columns, lines)


def _quantised(rows: list[Row]) -> str:
    """Each way to make the weights smaller, once, the best first."""
    by_name = {
        (f"{r['label']} {r['density']:g}" if r["method"] == "dip" else r["label"], r["quant"]): r
        for r in rows
    }
    lines = [
        [
            name,
            "as they are" if quant == "4 bit" else quant,
            f"{row['ppl']:.2f}",
            f"{row['ppl'] / row['ppl_full']:.3f}",
        ]
        for (name, quant), row in sorted(by_name.items(), key=lambda item: item[1]["ppl"])
    ]
    return table(["method", "weights", "perplexity", "of full precision"], lines)


_MORE = {
    "small-figure6": ("## Known and predicted units, with SiLU and with ReLU", _predicted),
    "small-figure9": ("## Quantised weights, and methods on them", _quantised),
}


def main() -> None:
    """Write the page of the run folders given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of small-results")
    parser.add_argument("more", type=Path, nargs="*", help="of small-figure6 and small-figure9")
    arguments = parser.parse_args()
    text = report(arguments.run, arguments.more)
    print(text)
    print("written to", write_part("results", text, PAGE, _HEAD))


if __name__ == "__main__":
    main()
