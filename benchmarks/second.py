"""The field, and thresholds against DIP-CA, on a model of a second family.

    sweep run second-field -f benchmarks/family.yaml
    sweep run second-beyond -f benchmarks/family.yaml --store runs/second-field
    python -m benchmarks.second field runs/second-field
    python -m benchmarks.second beyond runs/second-beyond --store runs/second-field

write a part each of docs/results-field.md and docs/beyond-dip-ca.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import field as pages
from benchmarks.field import Field, Row
from benchmarks.results import table, write_part

DOCS = Path(__file__).parents[1] / "docs"
LEVELS = {"KL": (0.04, 0.06, 0.08, 0.1, 0.15), "perplexity": (0.03, 0.05, 0.1, 0.15)}
"""At which the two are compared: nats, and growth over dense."""


def of_field(run: Path) -> str:
    """The tables of a finished run of `second-field`."""
    field = Field(run)
    parts = [_words(field.rows[0], _about(run))]
    for density in field.densities:
        parts += [f"### {field.rows[0]['model_title']} at MLP density {density:g}"]
        parts += [pages.at(field, density)]
    parts += ["### What the sources claim, here", pages.claims(field)]
    return "\n\n".join(parts)


def of_beyond(run: Path, store: Path | None = None) -> str:
    """The points of a finished run of `second-beyond`, and speeds at equal loss."""
    field = Field(run, store)
    curves = _curves(field)
    parts = [_setting(field.rows[0], _about(run)), _points(field, curves)]
    for kind, levels in LEVELS.items():
        parts += [f"At equal {kind}:", _compared(curves, kind, levels)]
    return "\n\n".join(parts)


def _about(run: Path) -> Row:
    return json.loads((run / "provenance.json").read_text(encoding="utf-8"))


def _setting(row: Row, about: Row) -> str:
    return _words(row, about) + f" DRAM of {1000 * row['dram_gb']:g} MB."


def _words(row: Row, about: Row) -> str:
    return pages.setting(row, about).replace("4-bit weights", f"{row['quant']}")


@dataclass(frozen=True, slots=True)
class Dot:
    """A configuration with what its windows lost."""

    row: Row
    kl: NDArray[np.float64]
    """Of each window, summed over tokens."""
    nll: NDArray[np.float64]
    dense: NDArray[np.float64]
    """Losses of the dense model in these windows."""
    tokens: NDArray[np.float64]

    def loss(self, kind: str, windows: Sequence[int]) -> float:
        """KL of a token, or by how much perplexity grows, over windows that may come twice."""
        chosen = list(windows)
        total = self.tokens[chosen].sum()
        if kind == "KL":
            return float(self.kl[chosen].sum() / total)
        return math.expm1(float((self.nll[chosen] - self.dense[chosen]).sum() / total))


def _curves(field: Field) -> dict[str, list[Dot]]:
    """By family, its points from the slowest on: `DIP, γ 0.1`, and `thresholds`."""
    dense = next(row for row in field.rows if row["method"] == "dense")
    of_dense = field.results(dense)
    curves: dict[str, list[Dot]] = {}
    for row in field.rows:
        if row["method"] == "dense":
            continue
        own = field.results(row)
        dot = Dot(row, own["kl"], own["nll"], of_dense["nll"], own["predicted"])
        named = f"DIP, γ {row['gamma']:g}"
        name = "thresholds" if row["selector"] == "resident-threshold" else named
        curves.setdefault(name, []).append(dot)
    for dots in curves.values():
        dots.sort(key=lambda dot: dot.row["tokens_per_s"])
    return curves


def _points(field: Field, curves: dict[str, list[Dot]]) -> str:
    rows = [
        [
            name,
            f"{dot.row['density']:g}",
            f"{dot.row['tokens_per_s']:.1f}",
            f"{dot.row['kl']:.3f}",
            f"{dot.row['kl_low']:.3f} to {dot.row['kl_high']:.3f}",
            f"{dot.row['ppl'] / dot.row['ppl_dense'] - 1:+.1%}",
            f"{dot.row['ppl_ratio_low'] - 1:+.1%} to {dot.row['ppl_ratio_high'] - 1:+.1%}",
        ]
        for name, dots in sorted(curves.items())
        for dot in dots
    ]
    columns = ["", "density", "tok/s", "KL", "interval", "perplexity", "interval"]
    return table(columns, rows)


def _compared(curves: dict[str, list[Dot]], kind: str, levels: Iterable[float]) -> str:
    family = {name: dots for name, dots in curves.items() if name != "thresholds"}
    count = len(curves["thresholds"][0].kl)
    rows = []
    for level in levels:
        whole = tuple(range(count))
        best = _fastest(family, kind, level, whole)
        ours = _speed(curves["thresholds"], kind, level, whole)
        if best is None or ours is None:
            continue
        ratios = [
            own / other
            for drawn in itertools.product(range(count), repeat=count)
            if (other := _fastest(family, kind, level, drawn)) is not None
            and (own := _speed(curves["thresholds"], kind, level, drawn)) is not None
        ]
        low, high = np.percentile(ratios, [2.5, 97.5])
        words = f"{level:g}" if kind == "KL" else f"+{level:.0%}"
        speeds = [f"{best:.1f}", f"{ours:.1f}", f"{ours / best:.3f}", f"{low:.3f} to {high:.3f}"]
        rows.append([words, *speeds])
    columns = [kind, "best of DIP's family, tok/s", "thresholds, tok/s", "faster by", "interval"]
    return table(columns, rows)


def _fastest(
    family: dict[str, list[Dot]], kind: str, level: float, windows: Sequence[int]
) -> float | None:
    speeds = [_speed(dots, kind, level, windows) for dots in family.values()]
    return max((speed for speed in speeds if speed is not None), default=None)


def _speed(dots: list[Dot], kind: str, level: float, windows: Sequence[int]) -> float | None:
    """Tokens per second at a loss, between neighbours by its logarithm; None outside of them."""
    losses = [dot.loss(kind, windows) for dot in dots]
    for (slow, fast), (less, more) in zip(
        itertools.pairwise(dots), itertools.pairwise(losses), strict=True
    ):
        if 0 < less <= level <= more:
            part = math.log(level / less) / math.log(more / less) if more > less else 0.0
            speeds = (slow.row["tokens_per_s"], fast.row["tokens_per_s"])
            return speeds[0] + part * (speeds[1] - speeds[0])
    return None


def main() -> None:
    """Write the part of a page that the run given on the command line is of."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second", description=__doc__)
    parser.add_argument("kind", choices=("field", "beyond"))
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--store", type=Path, help="of beyond: where its results are, if elsewhere")
    arguments = parser.parse_args()
    if arguments.kind == "field":
        page, text = DOCS / "results-field.md", of_field(arguments.run)
    else:
        page, text = DOCS / "beyond-dip-ca.md", of_beyond(arguments.run, arguments.store)
    print(text)
    print("written to", write_part("second", text, page))


if __name__ == "__main__":
    main()
