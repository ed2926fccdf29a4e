"""How often an interval of 95 % holds the truth: windows of a long text drawn again and again.

    python -m benchmarks coverage
    python -m benchmarks.coverage wiki.test.raw --tokens 512      on a text of your own

The losses of all windows are kept in a store, so that a second run computes nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.results import machine, table, write_part
from sweep.results.perplexity import Losses, delta_interval, ratio_interval
from sweep.spec import file as spec
from sweep.spec.entries import Sweep

WINDOWS, TOKENS = 128, 128
DRAWN, DRAWS = (4, 8, 16), 5000
LEAST, MOST = 0.93, 0.98
STORE = Path(__file__).parents[1] / "runs" / "coverage"
METHODS = {
    "glu 0.7": {"method": "glu", "density": 0.7},
    "dip 0.7": {"method": "dip", "density": 0.7},
    "dip 0.7, γ 0.2": {"method": "dip", "density": 0.7, "gamma": 0.2, "policies": "lfu"},
}

Truth = Callable[[Losses, Losses], float]
Interval = Callable[[Losses, Losses], tuple[float, float]]


def report(text: str = "", windows: int = WINDOWS, tokens: int = TOKENS) -> str:
    """Coverage of ΔPPL and of the ratio of perplexities, a row a method and figure."""
    from sweep.inputs import models, text_files

    if not models.present("smollm2-135m"):
        return "## Coverage\n\nSmolLM2 is not on this machine (`sweep fetch`)."
    text = text or ("wikitext2" if text_files.present("wikitext2") else "embedded-wiki")
    dense, others = losses(text, windows, tokens)
    rows = [row for name, sparse in others.items() for row in _rows(name, sparse, dense)]
    columns = ["method", "interval of", "truth", *(f"{n} windows" for n in DRAWN), "met"]
    about = (
        f"{machine()}. SmolLM2-135M, float32, {windows} windows of {tokens} tokens from all over "
        f"{Path(text).name}. The truth is that of all of them; each figure is the share of "
        f"{DRAWS:,} draws, with replacement, whose interval of 95 % holds it, and is uncertain by "
        f"0.3 %. Asked: {LEAST:.0%} to {MOST:.0%}. In brackets what a percentile bootstrap of the "
        "same windows holds, which earlier releases had."
    )
    return "\n\n".join(["## Coverage", about, table(columns, rows)])


def losses(text: str, windows: int, tokens: int) -> tuple[Losses, dict[str, Losses]]:
    """Losses of the same windows, dense and of each method; computed where the store lacks them."""
    from rich.console import Console

    from sweep import api
    from sweep.options import Options
    from sweep.plan.sweep_plan import plan_sweep
    from sweep.store.store import Store

    sweep = _sweep(text, windows, tokens)
    api.run(sweep, Options(out=STORE, workers=0, report=False), Console(stderr=True))
    store, points = Store(STORE), plan_sweep(sweep).plan.points
    by_method = {
        "dense" if p.point.method == "dense" else name: _of(store, p.evaluate_keys)
        for p, name in zip(points, ["dense", *METHODS], strict=True)
    }
    return by_method.pop("dense"), by_method


def _of(store: object, keys: Sequence[str]) -> Losses:
    records = [store.records[key].result for key in keys]  # type: ignore[attr-defined]
    nll, predicted = ([x for r in records for x in r[name]] for name in ("nll", "predicted"))
    return Losses(np.array(nll), np.array(predicted, dtype=np.float64))


def _sweep(text: str, windows: int, tokens: int) -> Sweep:
    body = {
        "models": ["smollm2-135m"],
        "text": text,
        "windows": windows,
        "window_tokens": tokens,
        "shard_windows": 4,
        "methods": ["dense", *METHODS.values()],
        "devices": [{"device": "apple-a18", "dram_gb": 0.064, "flash_gbps": 1}],
        "policies": "none",
    }
    return spec.from_mapping({"sweeps": {"coverage": body}}).sweeps["coverage"]


# -- drawing ---------------------------------------------------------------------------------


def _rows(name: str, sparse: Losses, dense: Losses) -> list[list[str]]:
    kinds: dict[str, tuple[Truth, Interval]] = {
        "ΔPPL": (_delta, delta_interval),
        "PPL over dense": (_ratio, ratio_interval),
    }
    rows = []
    for what, (truth, interval) in kinds.items():
        shares = [coverage(sparse, dense, n, truth, interval) for n in DRAWN]
        before = [coverage(sparse, dense, n, truth, _percentile(truth)) for n in DRAWN]
        met = all(LEAST <= share <= MOST for share in shares)
        cells = [f"{a:.1%} ({b:.0%})" for a, b in zip(shares, before, strict=True)]
        right = f"{truth(sparse, dense):.3f}"
        rows.append([name, what, right, *cells, "yes" if met else "**no**"])
    return rows


def coverage(
    sparse: Losses, dense: Losses, count: int, truth: Truth, interval: Interval, draws: int = DRAWS
) -> float:
    """Share of draws of `count` windows whose interval holds what all windows give."""
    rng, right, held = np.random.default_rng(count), truth(sparse, dense), 0
    for _ in range(draws):
        drawn = rng.integers(0, len(sparse.nll), count)
        low, high = interval(_some(sparse, drawn), _some(dense, drawn))
        held += low <= right <= high
    return held / draws


def _some(losses: Losses, drawn: np.ndarray) -> Losses:
    return Losses(losses.nll[drawn], losses.predicted[drawn])


def _delta(sparse: Losses, dense: Losses) -> float:
    return sparse.perplexity - dense.perplexity


def _ratio(sparse: Losses, dense: Losses) -> float:
    return sparse.perplexity / dense.perplexity


def _percentile(truth: Truth) -> Interval:
    """The interval of a percentile bootstrap over the windows, of 500 resamples."""
    rng = np.random.default_rng(0)

    def interval(sparse: Losses, dense: Losses) -> tuple[float, float]:
        count = len(sparse.nll)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=500)
        means = [np.exp((weights @ x.nll) / (weights @ x.predicted)) for x in (sparse, dense)]
        values = means[0] - means[1] if truth is _delta else means[0] / means[1]
        low, high = np.percentile(values, [2.5, 97.5])
        return float(low), float(high)

    return interval


def main() -> None:
    """Measure on the text given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("text", nargs="?", default="", help="a text file, or a text by its name")
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a window")
    arguments = parser.parse_args()
    section = report(arguments.text, arguments.windows, arguments.tokens)
    print(section)
    print("written to", write_part("coverage", section))


if __name__ == "__main__":
    main()
