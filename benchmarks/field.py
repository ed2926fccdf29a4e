"""Every method of the field in one protocol, and which claims of their sources hold in it.

    sweep run field
    sweep run field --set sweeps.field.seed=1 --only dejavu --only shadow-llm \\
          --store runs/field --out runs/field-1        (and the same with 2)
    python -m benchmarks.field runs/field runs/field-1 runs/field-2

writes docs/results-field.md. Any other model will do: --set 'sweeps.field.models=[name]'.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.results import table, write_part
from sweep.results.perplexity import Losses, change_interval
from sweep.store.store import Store

PAGE = Path(__file__).parents[1] / "docs" / "results-field.md"
_HEAD = """# Every method of the field in one protocol

Written by these commands; any other model will do: `--set 'sweeps.field.models=[name]'`.

```sh
sweep run field
sweep run field --set sweeps.field.seed=1 --only dejavu --only shadow-llm \\
    --store runs/field --out runs/field-1        # and the same with 2
python -m benchmarks.field runs/field runs/field-1 runs/field-2
```

It was meant to take at most an hour on two cores, which was not shown: it ran beside other work.
There a window of an evaluation took 2.8 s of a core, of which the sweep has 1,472, or 35 minutes on
two, and the training of a predictor five to six minutes; calibrations and searches come on top.
"""

Row = dict[str, Any]


def report(run: Path, seeds: Sequence[Path] = ()) -> str:
    """The page of a finished run of `field`, and of runs of it with other seeds."""
    field = Field(run)
    about = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    parts = [setting(field.rows[0], about)]
    for density in field.densities:
        parts += [f"## At MLP density {density:g}", at(field, density)]
    parts += ["## What the sources claim", _CLAIMS_ABOUT, claims(field)]
    parts += ["## Masks announced for later layers", _announced(field)]
    parts += ["## What was learnt", _learnt(field)]
    parts += ["## Cache policies under DIP at 0.5", _policies(field)]
    if seeds:
        parts += ["## Other seeds", _of_seeds([field, *map(Field, seeds)])]
    return "\n\n".join(parts)


@dataclass(frozen=True, slots=True)
class Line:
    """What is compared: a method with the parameters and the selector that tell it apart."""

    name: str
    density: float


class Field:
    """A finished run: rows by line, and the losses behind them, of a `store` if not its own."""

    def __init__(self, run: Path, store: Path | None = None) -> None:
        every = pq.read_table(run / "results.parquet").to_pylist()
        self.rows: list[Row] = [row for row in every if row["status"] == "done"]
        self.store = Store(store or run)
        self.drams = sorted({row["dram_gb"] for row in self.rows})
        self.by_line: dict[Line, Row] = {}
        for row in self.rows:
            if row["policy"] in ("lfu", "none") and row["dram_gb"] == self.drams[0]:
                self.by_line.setdefault(line_of(row), row)
        pruned = [line.density for line in self.by_line if line.name != "dense"]
        self.densities = sorted(set(pruned))

    def at(self, density: float) -> dict[str, Row]:
        """Rows of a density by the name of their line, the best first."""
        rows = {x.name: row for x, row in self.by_line.items() if x.density == density}
        return dict(sorted(rows.items(), key=lambda item: item[1]["ppl"]))

    def losses(self, row: Row) -> Losses:
        """Of the windows of a row."""
        own = self.results(row)
        return Losses(own["nll"], own["predicted"])

    def results(self, row: Row) -> dict[str, NDArray[np.float64]]:
        """What the evaluations of a row say of each window, in the order of the windows."""
        by_window: dict[int, dict[str, float]] = {}
        for key in json.loads(row["task_keys"]):
            record = self.store.records[key]
            if record.kind == "evaluate" and record.payload["method"] == row["method"]:
                told = [k for k in ("nll", "predicted", "kl", "flips") if k in record.result]
                for i, window in enumerate(record.payload["windows"]):
                    by_window[window] = {kind: record.result[kind][i] for kind in told}
        ordered = [by_window[window] for window in sorted(by_window)]
        return {kind: np.array([one[kind] for one in ordered], float) for kind in ordered[0]}

    def trained(self, method: str) -> Iterable[tuple[Row, Row]]:
        """Parameters and results of the trainings of a method."""
        for record in self.store.records.values():
            if record.kind == "train" and record.payload["method"] == method:
                yield record.payload["parameters"], record.result


def line_of(row: Row) -> Line:
    """The line of a row: `teal (topk)`, `was greedy`, `dip-ca`."""
    parameters = json.loads(row["parameters"])
    words = [row["series"]]
    shares = parameters.get("shares", "uniform")
    words += [shares] if shares not in ("uniform", row["method"]) else []
    attention = parameters.get("attention", "none")
    words += ["+ attention"] if attention != "none" and row["method"] != "active-flow" else []
    if row["method"] == "teal" and row["selector"] == "topk":
        words[0] = "teal (topk)"
    return Line(" ".join(words), row["density"])


def setting(row: Row, about: Row) -> str:
    machine, versions = about["machine"], about["versions"]
    return (
        f"{row['model_title']}, {row['windows']} windows of {row['window_tokens']} tokens of "
        f"{row['text_title']}, every token pruned, {row['dtype']}, seed {row['seed']}; dense "
        f"perplexity {row['ppl_dense']:.2f}. Calibrated and trained on embedded web pages. "
        f"{machine['cpu']}, {machine['cores']} cores; torch {versions['torch']}, transformers "
        f"{versions['transformers']}. Intervals: 95 %, from paired windows. Speeds are simulated: "
        f"{row['device']}, 4-bit weights, Flash {row['flash_gbps']:g} GB/s, caches under LFU."
    )


def at(field: Field, density: float) -> str:
    columns = ["method", "ΔPPL", "interval", "KL", "interval", "flips", "MLP", "linear"]
    for dram in field.drams:
        columns += [f"MB/token, {dram * 1000:g} MB", "tok/s"]
    rows = []
    for name, row in field.at(density).items():
        cells = [
            name,
            f"{row['delta_ppl']:.2f}",
            f"{row['delta_ppl_low']:.2f} to {row['delta_ppl_high']:.2f}",
            f"{row['kl']:.3f}",
            f"{row['kl_low']:.3f} to {row['kl_high']:.3f}",
            f"{row['flip_rate']:.1%}",
            f"{row['mlp_density']:.3f}",
            f"{row['linear_density']:.3f}",
        ]
        for dram in field.drams:
            at = _with_dram(field, row, dram)
            cells += [f"{at['flash_bytes_per_token'] / 1e6:.1f}", f"{at['tokens_per_s']:.1f}"]
        rows.append(cells)
    return table(columns, rows)


def _with_dram(field: Field, row: Row, dram: float) -> Row:
    same = ("method", "selector", "parameters", "density", "gamma")
    return next(
        other
        for other in field.rows
        if other["dram_gb"] == dram
        and other["policy"] in ("lfu", "none")
        and all(other[name] == row[name] for name in same)
    )


# -- claims ----------------------------------------------------------------------------------

_CLAIMS_ABOUT = (
    "The order that each source claims, with the difference of perplexities here, worse less "
    "better as it says. A claim holds where the whole interval is above 0, does not where all of "
    "it is below, and is open else. Methods of the sources that tell no order are not here."
)


@dataclass(frozen=True, slots=True)
class Claim:
    """`better` has the lower perplexity than `worse`, says the source, at these densities."""

    words: str
    better: str
    worse: str
    densities: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8)


CLAIMS = (
    Claim("TEAL: greedy shares beat uniform ones", "teal greedy", "teal"),
    Claim(
        "WINA beats TEAL, both top-k, at 40 % sparsity and above", "wina", "teal (topk)", (0.5, 0.6)
    ),
    Claim("WAS beats TEAL", "was", "teal"),
    Claim("WAS with its searched shares beats TEAL with its own", "was greedy", "teal greedy"),
    Claim("R-Sparse beats TEAL at 50 %", "r-sparse", "teal", (0.5,)),
    Claim("WINA beats R-Sparse at 50 %", "wina", "r-sparse", (0.5,)),
    Claim("La RoSA beats TEAL at equal k", "la-rosa", "teal (topk)"),
    Claim("SCAP beats the plain threshold", "scap", "teal"),
    Claim("CETT beats top-k at an equal share of neurons", "cett", "glu-oracle"),
    Claim(
        "Top-k beats one threshold for all layers", "glu-oracle", "glu-oracle (global-threshold)"
    ),
    Claim("HiRE beats DejaVu", "hire", "dejavu"),
    Claim("ShadowLLM beats DejaVu", "shadow-llm", "dejavu"),
    Claim("DIP beats DejaVu on SwiGLU", "dip", "dejavu"),
    Claim("DIP beats ShadowLLM on SwiGLU", "dip", "shadow-llm"),
    Claim("DIP beats CATS", "dip", "cats"),
    Claim(
        "Skipping 20 % of the MLPs by similarity beats leaving out 20 % of each",
        "ffn-skip",
        "dip",
        (0.8,),
    ),
)


def claims(field: Field) -> str:
    columns = ["claim", "density", "better", "worse", "difference", "interval", "so it is"]
    rows = []
    for claim in CLAIMS:
        for density in claim.densities:
            lines = field.at(density)
            if claim.better in lines and claim.worse in lines:
                rows.append(_judged(field, claim, density, lines))
    return table(columns, rows)


def _judged(field: Field, claim: Claim, density: float, lines: dict[str, Row]) -> list[str]:
    better, worse = lines[claim.better], lines[claim.worse]
    low, high = change_interval(field.losses(better), field.losses(worse))
    verdict = "holds" if low > 0 else "**does not hold**" if high < 0 else "open"
    return [
        claim.words,
        f"{density:g}",
        f"{claim.better} {better['ppl']:.2f}",
        f"{claim.worse} {worse['ppl']:.2f}",
        f"{worse['ppl'] - better['ppl']:.2f}",
        f"{low:.2f} to {high:.2f}",
        verdict,
    ]


# -- what else is known ----------------------------------------------------------------------


def _announced(field: Field) -> str:
    rows = []
    for line, row in field.by_line.items():
        for group, figures in json.loads(row.get("announced") or "{}").items():
            recalls = [f"{figure['recall']:.3f}" for figure in figures.values()]
            rows.append([f"{line.name} {line.density:g}, {group}", *recalls])
    about = (
        "Recall of the units that a token uses, if those of the same group some layers earlier are "
        "loaded for it: what is not announced is read on demand. With the same number in each "
        "layer, precision is the same. By chance it would be the density."
    )
    columns = ["", *(f"{distance} layers ahead" for distance in (1, 2, 3, 4))]
    return f"{about}\n\n{table(columns, rows)}"


_TEAL = {"Llama-3-8B": (0.49, 0.60, 0.46), "Mistral-7B": (0.53, 0.58, 0.42)}
_TEAL |= {"Llama-2-7B": (0.54, 0.59, 0.41)}
"""What released tables of TEAL keep at 50 % of W_gate, W_up and W_down, means over layers."""


def _learnt(field: Field) -> str:
    rows: list[list[str]] = []
    shown: dict[str, Callable[[Row], str]] = {
        "dejavu": lambda r: f"recall of the largest 10 %: {r['recall_of_largest']:.3f}",
        "shadow-llm": lambda r: f"recall of the 10 % that matter: {r['recall']:.3f}",
        "hire": lambda r: "recall@k of the candidates at k / m of "
        + ", ".join(f"{k:g}: {v:.3f}" for k, v in zip(r["kept"], r["recall"], strict=True)),
        "ffn-skip": lambda r: f"{1 - r['computed']:.1%} of MLPs skipped "
        f"at cosine {r['threshold']:.3f}",
        "la-rosa": lambda r: "variance in half of the coordinates: "
        f"{np.mean(r['variance_in_half_by_layer']):.3f}",
        "teal": lambda r: "shares at density 0.5: "
        + ", ".join(f"{g} {s:.3f}" for g, s in r.get("shares", {}).items()),
    }  # fmt: skip
    for method, words in shown.items():
        rows += sorted([method, words(result)] for _, result in field.trained(method))
    parts = ("gate-input", "up-input", "intermediate")
    for model, shares in _TEAL.items():
        words = ", ".join(f"{g} {s:.3f}" for g, s in zip(parts, shares, strict=True))
        rows.append(["teal", f"its authors' shares of {model}, attention pruned too: {words}"])
    return table(["method", "training says"], rows)


def _policies(field: Field) -> str:
    rows = sorted(
        (
            [
                row["policy"],
                f"{row['dram_gb'] * 1000:g}",
                f"{row['hit_rate']:.3f}",
                f"{row['tokens_per_s']:.1f}",
            ]
            for row in field.rows
            if (row["method"], row["density"], row["selector"]) == ("dip", 0.5, "topk")
        ),
        key=lambda cells: (float(cells[1]), -float(cells[2])),
    )
    return table(["policy", "DRAM in MB", "hit rate", "tok/s"], rows)


def _of_seeds(runs: Sequence[Field]) -> str:
    rows = []
    for line in runs[1].by_line:
        found = [run.by_line.get(line) for run in runs]
        if line.name != "dense" and all(found):
            values = [row["delta_ppl"] for row in found if row]
            cells = [f"{value:.2f}" for value in values]
            spread = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            rows.append([line.name, f"{line.density:g}", *cells, spread])
    seeds = [f"seed {run.rows[0]['seed']}" for run in runs]
    return f"{_SEEDS_ABOUT}\n\n{table(['method', 'density', *seeds, 'standard deviation'], rows)}"


_SEEDS_ABOUT = (
    "ΔPPL of what is trained. A seed chooses the windows, too, so that the spread is that of "
    "training and of text together."
)


def main() -> None:
    """Write the page of the run folders given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of field")
    parser.add_argument("seeds", type=Path, nargs="*", help="of the same with other seeds")
    arguments = parser.parse_args()
    text = report(arguments.run, arguments.seeds)
    print(text)
    print("written to", write_part("field", text, PAGE, _HEAD))


if __name__ == "__main__":
    main()
