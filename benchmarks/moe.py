"""Routing rules on a mixture of experts made here: misses against bias, and what it costs.

    sweep split smollm2-135m runs/smollm2-moe --tokens 8192
    sweep run moe -f benchmarks/moe.yaml
    python -m benchmarks.moe runs/moe

writes docs/moe.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.results import table, write_part
from reports.results import read_table, rows

PAGE = Path(__file__).parents[1] / "docs" / "moe.md"
_HEAD = """# Routing rules on a mixture of experts made here

Written by these commands: SmolLM2 is split into experts, so no hub is needed.

```sh
sweep split smollm2-135m runs/smollm2-moe --tokens 8192
sweep run moe -f benchmarks/moe.yaml
python -m benchmarks.moe runs/moe
```
"""
_ABOUT = (
    "Of 16 experts a layer 4 are shared, and 6 of the other 12 are chosen. `dense` is this model, "
    "with its router's own choice; `experts 12` is all of it, the dense SmolLM2 again. The router "
    "of a real mixture was trained with its experts; this one was fitted afterwards and learnt "
    "on 8,192 tokens to give what the dense model gives, its experts not at all. So what follows "
    "says how rules and caches work, and nothing about perplexities of real ones."
)
ENOUGH = 0.5
"""Share of the misses that the largest bias avoids which a small one must avoid too."""

Row = dict[str, Any]


def report(run: Path) -> str:
    """The page of a finished run of `moe`."""
    members = [row for row in rows(read_table(run / "results.parquet")) if row["status"] == "done"]
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    dense = next(row for row in members if row["method"] == "dense")
    parts = [_ABOUT, _setting(dense, provenance), "## Bias for cached experts", _answer(members)]
    for dram in sorted({row["dram_gb"] for row in members}):
        of_dram = [row for row in members if row["dram_gb"] == dram]
        parts += [f"### {_cached(of_dram)} of the experts cached ({dram:g} GB)"]
        parts += [_table(_of(of_dram, "cache-prior", "max-rank", "score-gap", "drop-if-miss"))]
    parts += ["## Caches under the router's own choice", _policies(members)]
    parts += ["## Fewer experts, and neurons inside of them", _fewer(members)]
    parts += ["## Experts read ahead", _ahead(members)]
    return "\n\n".join(parts)


def _of(members: Iterable[Row], *methods: str) -> list[Row]:
    """LRU rows of these methods, the router's own choice first."""
    stock = [row for row in members if _is_stock(row)]
    chosen = [row for row in members if row["method"] in methods]
    return [row for row in (*stock, *chosen) if row["policy"] == "lru"]


def _is_stock(row: Row) -> bool:
    parameters = json.loads(row["parameters"])
    return row["method"] == "stock" and parameters == {"experts": 0, "inside": "none"}


def _announces(row: Row) -> int:
    return int(json.loads(row["parameters"]).get("prefetch", 0))


def _cached(members: list[Row]) -> str:
    return f"{next(row['cache_fraction'] for row in members if row['policy'] == 'lru'):.0%}"


def _setting(dense: Row, about: dict[str, Any]) -> str:
    return (
        f"Windows of {dense['window_tokens']} tokens of {dense['text_title']}: {dense['windows']}; "
        f"perplexity {dense['ppl']:.2f}. Caches under LRU, of each layer, empty at first. "
        f"{about['machine']['cpu']}; torch {about['versions']['torch']}."
    )


def _answer(members: list[Row]) -> str:
    """Whether the gain saturates at a small bias, and what that costs."""
    lines: list[list[str]] = []
    biased: list[Row] = []
    for dram in sorted({row["dram_gb"] for row in members}):
        of_dram = [row for row in members if row["dram_gb"] == dram]
        stock = next(row for row in _of(of_dram) if _is_stock(row))
        biased = sorted(_of(of_dram, "cache-prior")[1:], key=lambda row: row["lam"])
        small, large = biased[1], biased[-1]
        avoided = [stock["misses_per_token"] - row["misses_per_token"] for row in (small, large)]
        share = avoided[0] / avoided[1] if avoided[1] > 0 else 0.0
        lines.append(
            [
                _cached(of_dram),
                f"{stock['misses_per_token']:.1f}",
                f"{small['misses_per_token']:.1f}",
                f"{large['misses_per_token']:.1f}",
                f"{share:.0%}",
                _change(small),
                _change(large),
                "yes" if share >= ENOUGH else "no",
            ]
        )
    names = [f"λ {biased[i]['lam']:g}" for i in (1, -1)]
    columns = ["cached", "misses/token of stock", *names, f"share at {names[0]}"]
    columns += [f"PPL at {names[0]}", f"PPL at {names[1]}", "saturates"]
    about = (
        "Published of trained mixtures: the gain saturates at a small bias, and costs little "
        f"perplexity. Here it saturates where {names[0]} avoids at least {ENOUGH:.0%} of the "
        f"misses that {names[1]} avoids."
    )
    return f"{about}\n\n{table(columns, lines)}\n\n{_conclusion(lines, members)}"


def _conclusion(lines: list[list[str]], members: list[Row]) -> str:
    saturated = sum(line[-1] == "yes" for line in lines)
    biased = [row for row in members if row["method"] == "cache-prior"]
    ratios = [row["ppl"] / row["ppl_dense"] - 1 for row in biased]
    least = min(biased, key=lambda row: row["lam"])["lam"]
    free = [row for row in biased if row["ppl_ratio_low"] <= 1.0]
    first = (
        f"The published saturation holds here with {saturated} of {len(lines)} caches"
        if saturated
        else "The published saturation does not hold here: misses go on falling with the bias"
    )
    return (
        f"{first}. Perplexity changes by {min(ratios):+.1%} to {max(ratios):+.1%} over all λ from "
        f"{least:g} and all caches; of {len(biased)} settings {len(free)} are not surely above "
        "what the model's own router gives. Changes are those of the perplexity to the model's own "
        "router, with their 95 % intervals over windows."
    )


def _change(row: Row) -> str:
    low, high = row["ppl_ratio_low"] - 1, row["ppl_ratio_high"] - 1
    return f"{row['ppl'] / row['ppl_dense'] - 1:+.1%} [{low:+.1%}, {high:+.1%}]"


def _table(members: Iterable[Row]) -> str:
    columns = ["rule", "misses/token", "hits", "swaps", "KL", "PPL", "MB/token", "tok/s"]
    columns += ["asked / slots", "events above 1"]
    return table(columns, [[_rule(row), *_figures(row)] for row in members])


def _figures(row: Row) -> list[str]:
    return [
        f"{row['misses_per_token']:.1f}",
        f"{row['hit_rate']:.1%}",
        f"{row['swaps']:.1%}",
        f"{row['kl']:.4f}",
        f"{row['ppl']:.2f}",
        f"{row['flash_bytes_per_token'] / 1e6:.2f}",
        f"{row['tokens_per_s']:.1f}",
        f"{row['asked_per_slot']:.2f}",
        f"{row['asked_above_slots']:.0%}",
    ]


def _rule(row: Row) -> str:
    parameters = json.loads(row["parameters"])
    usual = {"experts": 0, "inside": "none"}
    written = {k: v for k, v in parameters.items() if usual.get(k) != v}
    density = f" {row['density']:g}" if row["density"] != 1 else ""
    return " ".join([row["method"], *(f"{k} {v}" for k, v in written.items())]) + density


def _policies(members: list[Row]) -> str:
    stock = [row for row in members if _is_stock(row)]
    policies = list(dict.fromkeys(row["policy"] for row in stock))
    by_dram: dict[float, dict[str, str]] = {}
    for row in stock:
        by_dram.setdefault(row["dram_gb"], {})[row["policy"]] = f"{row['hit_rate']:.1%}"
    lines = [[f"{dram:g} GB", *(of[p] for p in policies)] for dram, of in by_dram.items()]
    return table(["DRAM", *policies], lines)


def _fewer(members: list[Row]) -> str:
    middle = sorted({row["dram_gb"] for row in members})[1]
    chosen = [
        row
        for row in members
        if row["method"] == "stock" and row["dram_gb"] == middle and not _announces(row)
    ]
    return _table(row for row in chosen if row["policy"] == "lru")


def _ahead(members: list[Row]) -> str:
    announcing = [row for row in members if _announces(row)]
    lines: list[list[str]] = []
    for row in sorted(announcing, key=lambda row: (row["dram_gb"], _announces(row))):
        counts = json.loads(row["announced"])["expert"]["1"]
        lines.append(
            [
                f"{row['dram_gb']:g} GB",
                str(_announces(row)),
                f"{counts['recall']:.1%}",
                f"{counts['precision']:.1%}",
                f"{row['wasted_bytes_per_token'] / 1e6:.2f}",
                f"{row['tokens_per_s']:.1f}",
                f"{row['tokens_per_s_ahead']:.1f}",
            ]
        )
    columns = ["DRAM", "announced", "recall", "precision", "wasted MB/token"]
    columns += ["tok/s on demand", "tok/s read ahead"]
    about = (
        "Each layer's input announces the best experts of the next layer's router, which are read "
        "while the layer computes; by chance the recall of m experts were m / 12."
    )
    if all(row["tokens_per_s_ahead"] < row["tokens_per_s"] for row in announcing):
        about += (
            " It does not pay here: a layer computes for a fraction of the time that one expert "
            "takes to be read, so wasted reads cost more than computing hides."
        )
    return f"{about}\n\n{table(columns, lines)}"


def main() -> None:
    """Write the page of the run folder given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moe", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of moe")
    text = report(parser.parse_args().run)
    print(text)
    print("written to", write_part("moe", text, PAGE, _HEAD))


if __name__ == "__main__":
    main()
