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

import pandas as pd

from benchmarks.results import table, write_part
from reports.paper.published import published

PAGE = Path(__file__).parents[1] / "docs" / "results-small.md"
_HEAD = "# Small model, all methods\n"
PRINTED = {0.5: "table1", 0.7: "table3"}
"""Which table of the paper has the density next to ours: 0.5, and 0.6 for our 0.7."""


def report(run: Path) -> str:
    """The Markdown of a finished run of `small-results`."""
    rows = pd.read_parquet(run / "results.parquet")
    about = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    rows["pattern"] = [json.loads(p).get("pattern", "") for p in rows.parameters]
    rows["label"] = (rows.method + " " + rows.pattern).str.strip()
    rows["weights"] = rows.quant.str.extract(r"^([a-z]+) ", expand=False).fillna("")
    full = float(rows[(rows.method == "dense") & (rows.weights == "")].ppl.iloc[0])
    parts = [_setting(rows, about, full)]
    for density, exhibit in PRINTED.items():
        parts += [f"## At {density:.0%} MLP density", _order(rows, density, exhibit)]
    parts += ["## Weights changed once", _quantised(rows), "## What was to be shown", _claims(rows)]
    return "\n\n".join(parts)


def _setting(rows: pd.DataFrame, about: dict[str, Any], full: float) -> str:
    machine, versions = about["machine"], about["versions"]
    first = rows.iloc[0]
    return (
        f"{first.model}, {int(first.windows)} windows of {int(first.window_tokens)} tokens of "
        f"WikiText-2 ({int(first.tokens)} tokens), {first.dtype}, seed {int(first.seed)}; dense "
        f"perplexity {full:.2f}. Calibrated and trained on embedded web pages. "
        f"{machine['cpu']}, {machine['cores']} cores; torch {versions['torch']}, transformers "
        f"{versions['transformers']}. Intervals: 95 %, paired bootstrap over windows."
    )


def _order(rows: pd.DataFrame, density: float, exhibit: str) -> str:
    own = rows[(rows.density == density) & (rows.weights == "")].sort_values("ppl")
    printed = {
        model: {
            p.method: p.value
            for p in published()
            if (p.exhibit, p.model, p.metric) == (exhibit, model, "ppl") and p.method != "dense"
        }
        for model in ("phi-3-medium", "mistral-7b")
    }
    columns = ["method", "perplexity", "ΔPPL", "interval", "density used", "extra bytes"]
    columns += [f"{exhibit.title()}, {model}" for model in printed]
    lines = [
        [
            row.label,
            f"{row.ppl:.2f}",
            f"{row.delta_ppl:.2f}",
            f"{row.delta_ppl_low:.2f} to {row.delta_ppl_high:.2f}",
            f"{row.mlp_density:.3f}",
            f"{row.overhead_bytes / 1e6:.1f} MB" if row.overhead_bytes else "",
            *(
                f"{values[row.label]:.2f}" if row.label in values else ""
                for values in printed.values()
            ),
        ]
        for row in own.itertuples()
    ]
    ours = dict(zip(own.label, own.ppl, strict=True))
    agreement = [_agreement(ours, model, values) for model, values in printed.items()]
    return "\n\n".join([table(columns, lines), *agreement])


def _agreement(ours: dict[str, float], model: str, printed: dict[str, float]) -> str:
    """How many pairs of methods order as printed, and which do not."""
    common = [name for name in ours if name in printed]
    pairs = list(combinations(common, 2))  # in our order: the first is better here
    other = [(a, b) for a, b in pairs if printed[a] > printed[b]]
    named = "; ".join(f"{a} before {b}" for a, b in other)
    return (
        f"Against {model}: {len(pairs) - len(other)} of {len(pairs)} pairs of methods order as in "
        f"the paper." + (f" Here, and not there: {named}." if other else "")
    )


def _quantised(rows: pd.DataFrame) -> str:
    own = rows[rows.weights != ""]
    lines = [[row.quant, f"{row.ppl:.2f}", f"{row.ppl_full:.2f}"] for row in own.itertuples()]
    return table(["weights", "perplexity", "of the weights as they were"], lines)


def _claims(rows: pd.DataFrame) -> str:
    pruned, changed = rows[rows.weights == ""], rows[rows.weights != ""]
    ppl = {(row.label, row.density): row.ppl for row in pruned.itertuples()}
    three = {row.weights: row.ppl for row in changed.itertuples() if " 3 bit" in row.quant}
    pairs = []
    for d in PRINTED:
        at = f" at {d:.0%}"
        pairs += [("the oracle beats the predictor" + at, ppl["glu-oracle", d], ppl["dejavu", d])]
        pairs += [
            (f"LoRA lowers {name.upper()}{at}", ppl[f"{name}+lora", d], ppl[name, d])
            for name in ("dip", "cats")
            if (f"{name}+lora", d) in ppl
        ]
    two = {m: ppl[f"{m} 2:4", 0.5] for m in ("sparsegpt", "wanda", "magnitude")}
    pairs += [
        ("SparseGPT beats Wanda at 2:4", two["sparsegpt"], two["wanda"]),
        ("SparseGPT beats magnitude at 2:4", two["sparsegpt"], two["magnitude"]),
        ("GPTQ beats round-to-nearest at 3 bits", three["gptq"], three["rtn"]),
    ]
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
