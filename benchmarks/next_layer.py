"""A token's mask that looks at the next layer's predicted one: does it make anything faster?

    python -m benchmarks.next_layer runs/next-layer

measures DIP-CA, thresholds at the cache, and both with masks that look at the next layer, window
after window on one core, goes on where it was stopped, and writes a part of docs/beyond-dip-ca.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.looking import LAYERED, POLICY, Ahead, Look, Looking, Misses, Neighbours
from benchmarks.results import machine, table, write_part
from methods.apply import applied
from methods.registry import create
from methods.thresholds import Quantiles, ThresholdSelect
from simulator import Device, Geometry, PhaseCounts, allocate, footprint, throughput
from sweep.inputs import models, text_files, texts
from sweep.keys import digest
from sweep.make_selector import make_selector
from sweep.measures.distances import Distance, dense
from sweep.measures.losses import Watch, losses
from sweep.plan.materials import CALIBRATION_WINDOWS, spread
from sweep.results.perplexity import student_t
from sweep.selectors import Selector
from sweep.tasks.calibrate import calibrate

PAGE = Path(__file__).parents[1] / "docs" / "beyond-dip-ca.md"
MODEL, TEXT, CALIBRATION, TOKENS = "smollm2-135m", "embedded-wiki", "embedded-c4", 512
GROUPS, DRAM_GB = ("input", "intermediate"), 0.064
WINDOWS, LEVELS = 8, (0.06, 0.08)

Numbers = NDArray[np.float64]
Place = tuple[str, float, int]
"""Key of a curve, density and window."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Configurations that differ in density alone."""

    name: str
    densities: tuple[float, ...]
    gamma: float = 0.0
    """Of top-k at the cache; 0 for thresholds."""
    look: Look | None = None
    against: str = ""
    """The name of what it is compared with; empty for what others are compared with."""

    @property
    def sees(self) -> str:
        """What it knows of the next layer."""
        if self.look is None or not self.look.weight or self.look.idea == "alone":
            return "–"
        return "told" if self.look.told else "predicted"

    @property
    def key(self) -> str:
        return f"{self.name}, {self.sees}"


OF_TOP_K, OF_THRESHOLDS = (0.7, 0.77), (0.61, 0.67)
CA, THRESHOLDS, FIXED = "DIP, γ 0.1", "thresholds", "residents for nothing, k units in all"


def _seen(name: str, look: Look, against: str, densities: tuple[float, ...]) -> Iterator[Curve]:
    """Of an idea, its curves: next layers predicted, and told."""
    for told in (False, True):
        gamma = 0.1 if against == CA else 0.0
        yield Curve(name, densities, gamma, replace(look, told=told), against)


CURVES = (
    Curve(CA, (0.7, 0.75, 0.8), 0.1),
    Curve("DIP-CA (γ 0.2)", (0.7, 0.75, 0.8), 0.2),
    Curve(THRESHOLDS, OF_THRESHOLDS),
    *_seen("two layers keep 2k", Look("budget", 1), CA, OF_TOP_K),
    *_seen("thresholds rise with the need of both layers", Look("budget", 0.5), THRESHOLDS,
           OF_THRESHOLDS),
    *_seen("thresholds fall with it", Look("budget", -0.5), THRESHOLDS, OF_THRESHOLDS),
    Curve("thresholds of inputs fall with the need of this layer", OF_THRESHOLDS, 0,
          Look("alone", -0.5), THRESHOLDS),
    Curve("scores mixed with ¼ of what the layer before predicts", OF_THRESHOLDS, 0,
          Look("smooth", 0.25), THRESHOLDS),
    Curve("the same, ½", OF_THRESHOLDS, 0, Look("smooth", 0.5), THRESHOLDS),
    *_seen("units count by what the next layer reads of them", Look("written", 1), THRESHOLDS,
           OF_THRESHOLDS),
    Curve(FIXED, OF_TOP_K, 0, Look("misses", 0), CA),
    *_seen("the same, misses of two layers together", Look("misses", 1), FIXED, OF_TOP_K),
)  # fmt: skip


CONFIGURATIONS = [(curve, density) for curve in CURVES for density in curve.densities]
FORETOLD = "foretold"
"""Where a curve has its name, what is told of predictions."""


class Bench:
    """The model, its caches and thresholds, and what the dense run expects."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = models.loaded(MODEL)
        self.geometry = Geometry.load(MODEL)
        self.device = Device.load({"device": "apple-a18", "dram_gb": DRAM_GB, "flash_gbps": 1})
        room = allocate(footprint(self.geometry, GROUPS), self.device.dram_bytes)
        self.slots = dict(room.slots)
        self.ahead = Ahead(self.model, Quantiles.of(self._calibrated))

    @cached_property
    def _calibrated(self) -> dict[str, NDArray[Any]]:
        payload: Any = {"window_tokens": TOKENS, "dtype": "float32", "threads": 1, "method": "dip",
                        "parameters": {}, "windows": list(range(CALIBRATION_WINDOWS))}  # fmt: skip
        where: Any = {"model": MODEL, "text_name": CALIBRATION}
        return calibrate(payload, where, {}, "cpu")[1]

    def windows(self, count: int) -> dict[int, NDArray[np.int64]]:
        """Token ids of windows by their number: those that a sweep of this text begins with."""
        every = spread(cast("int", texts.count(TEXT, MODEL, TOKENS, make=True)), 0)[:count]
        return dict(zip(every, texts.windows(TEXT, MODEL, TOKENS, chosen=every), strict=True))

    def selector(self, curve: Curve) -> Selector:
        """A fresh one, with empty caches."""
        payload = {"policy": POLICY, "slots": self.slots, "scope": "window"}
        if curve.look is None:
            name = "cache-aware" if curve.gamma else "resident-threshold"
            payload |= {"name": name, "gamma": curve.gamma}
            return make_selector(payload, {"calibration": self._calibrated})
        if curve.gamma:
            return Neighbours(self.slots, curve.gamma, curve.look, self.ahead)
        kind = Misses if curve.look.idea == "misses" else Looking
        threshold = ThresholdSelect(self.ahead.quantiles, LAYERED)
        return kind(threshold, self.slots, curve.look, self.ahead)

    def measured(
        self, number: int, window: NDArray[np.int64], done: set[Place]
    ) -> Iterator[dict[str, Any]]:
        """What each configuration that is not done does in a window, and how well the next layer is
        foretold there."""
        tokens = torch.from_numpy(window)[None]
        self.ahead.listen(tokens)

        def run(watch: Watch) -> None:
            with torch.inference_mode():
                losses(self.model, tokens, watch)

        known = dense(self._identity, number, len(window), run)
        if (FORETOLD, 0.0, number) not in done:
            yield {"key": FORETOLD, "density": 0.0, "window": number, **self._foretold()}
        for curve, density in CONFIGURATIONS:
            if (curve.key, density, number) in done:
                continue
            selector, distance = self.selector(curve), Distance()
            selector.begin_window(len(window))
            with torch.inference_mode(), applied(self.model, create("dip", density), selector):
                nll = losses(self.model, tokens, known.watch(distance)).double().sum()
            place = {"key": curve.key, "density": density, "window": number}
            yield place | {"nll": float(nll), "kl": distance.kl, **self._cost(selector)}

    @cached_property
    def _identity(self) -> str:
        return digest([models.fingerprint(MODEL), text_files.fingerprint(TEXT), TOKENS])

    def _cost(self, selector: Selector) -> dict[str, float]:
        counts = {g: PhaseCounts.from_json(c["phases"]) for g, c in selector.groups().items()}
        speed = throughput(self.geometry, self.device, counts, TOKENS)
        flash = speed.flash_bytes_per_token
        return {"seconds": TOKENS * speed.seconds_per_token, "flash": TOKENS * flash}

    def _foretold(self, share: float = 0.6) -> dict[str, float]:
        """Of the inputs that layers use by their thresholds, the share that was predicted."""
        ahead, both, used, named = self.ahead, 0, 0, 0
        for (group, layer), own in ahead.told.items():
            predicted = ahead.scores(layer, group, own, False)
            if predicted is None:
                continue
            edge = ahead.threshold(layer + 1, group, share)
            masks = predicted >= edge, ahead.told[group, layer + 1] >= edge
            both += int((masks[0] & masks[1]).sum())
            named, used = named + int(masks[0].sum()), used + int(masks[1].sum())
        return {"recall": both / used, "precision": both / named}


class Results:
    """What was measured, as arrays [densities, windows] by curve."""

    def __init__(self, lines: Sequence[dict[str, Any]]) -> None:
        self._by_place = {_place(line): line for line in lines}
        wanted = [(curve.key, density) for curve, density in CONFIGURATIONS]
        numbers = dict.fromkeys(line["window"] for line in lines)
        self.windows = [w for w in numbers if all((*at, w) in self._by_place for at in wanted)]
        count = len(self.windows)
        self.sets = np.vstack([np.ones(count), 1 - np.eye(count)])
        """Which windows count [sets, windows]: all of them, then all but one each."""

    def sums(self, curve: Curve, kind: str) -> Numbers:
        """[sets, densities] of a token."""
        every = [[self._by_place[curve.key, d, w][kind] for w in self.windows]
                 for d in curve.densities]  # fmt: skip
        tokens = (TOKENS - 1 if kind == "kl" else TOKENS) * self.sets.sum(axis=1, keepdims=True)
        return self.sets @ np.array(every).T / tokens

    def speed(self, curve: Curve, level: float) -> Numbers:
        """Tokens per second [sets] at a KL, between densities by its logarithm.

        NaN where all windows together do not reach it; smaller sets may go on in a straight line.
        """
        kl, speed = np.log(self.sums(curve, "kl")), 1 / self.sums(curve, "seconds")
        order = np.argsort(kl, axis=1)
        kl, speed = np.take_along_axis(kl, order, 1), np.take_along_axis(speed, order, 1)
        wanted, rows = np.log(level), np.arange(len(kl))
        if not kl[0, 0] <= wanted <= kl[0, -1]:
            return np.full(len(kl), np.nan)
        after = np.clip((kl < wanted).sum(axis=1), 1, kl.shape[1] - 1)
        low, high = (rows, after - 1), (rows, after)
        return speed[low] + (wanted - kl[low]) / (kl[high] - kl[low]) * (speed[high] - speed[low])

    def mean(self, kind: str) -> float:
        """Of what is measured once in a window."""
        return float(np.mean([self._by_place[FORETOLD, 0.0, w][kind] for w in self.windows]))

    def ratio(self, own: Numbers, other: Numbers) -> list[str]:
        """A ratio of speeds and its 95 % interval, by the jackknife of its logarithm and Student's
        t of one less than there are windows."""
        logs, count = np.log(own / other), len(self.windows)
        if np.isnan(logs[0]):
            return ["–", "–"]
        apart = logs[1:] - logs[1:].mean()
        reach = student_t(count - 1) * np.sqrt((count - 1) / count * (apart**2).sum())
        low, high = np.exp([logs[0] - reach, logs[0] + reach])
        return [f"{np.exp(logs[0]):.3f}", f"{low:.3f} to {high:.3f}"]


def report(lines: Sequence[dict[str, Any]]) -> str:
    """The part of the page."""
    results = Results(lines)
    return f"{_about(results)}\n\n{_compared(results)}"


def _about(results: Results) -> str:
    return (
        f"SmolLM2-135M, {len(results.windows)} windows of {TOKENS} tokens of {TEXT}, thresholds "
        f"from {CALIBRATION}; apple-a18 at 4 bits, Flash 1 GB/s, DRAM of {1000 * DRAM_GB:g} MB, "
        f"caches under LFU. {machine()}; torch {torch.__version__}. Intervals: 95 %, from paired "
        f"windows (jackknife). Speeds are over that of `times`, at equal KL; family: the faster γ. "
        f"Predicted masks of the next layer's inputs (a share of "
        f"0.6 of calibration text): recall {results.mean('recall'):.0%}, precision "
        f"{results.mean('precision'):.0%}. `python -m benchmarks.next_layer RUN`."
    )


def _points(results: Results, curve: Curve) -> str:
    """KL and tokens per second of each density."""
    kl, seconds = (results.sums(curve, kind)[0] for kind in ("kl", "seconds"))
    return ", ".join(f"{k:.3f} at {1 / s:.1f}" for k, s in zip(kl, seconds, strict=True))


def _compared(results: Results) -> str:
    named = {curve.name: curve for curve in CURVES if curve.look is None}
    named[FIXED] = next(curve for curve in CURVES if curve.name == FIXED)
    family = [curve for curve in named.values() if curve.look is None and curve.gamma]
    rows = []
    for curve in CURVES:
        cells = [curve.name, curve.sees, _points(results, curve), curve.against or "family"]
        for level in LEVELS:
            others = [named[curve.against]] if curve.against else family
            best = np.fmax.reduce([results.speed(other, level) for other in others])
            cells += results.ratio(results.speed(curve, level), best)
        rows.append(cells)
    columns = [f(x) for x in LEVELS for f in ("at KL {:g}".format, lambda _: "interval")]
    return table(["", "next layer", "KL at tok/s", "times", *columns], rows)


def measure(path: Path, count: int) -> list[dict[str, Any]]:
    """Lines of a file, after what it lacks of so many windows was measured and written there."""
    lines = _read(path)
    if not count:
        return lines
    done, bench = {_place(line) for line in lines}, Bench()
    for number, window in bench.windows(count).items():
        for line in bench.measured(number, window, done):
            with path.open("a", encoding="utf-8") as file:
                print(json.dumps(line), file=file)
            print(json.dumps(line), flush=True)
            lines.append(line)
    return lines


def _place(line: dict[str, Any]) -> Place:
    return line["key"], line["density"], line["window"]


def _read(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def main() -> None:
    """Measure what is missing, and write the part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.next_layer", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for what is measured")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="0: tell what there is")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = report(measure(arguments.out / "windows.jsonl", arguments.windows))
    print(text)
    print("written to", write_part("next-layer", text, PAGE))


if __name__ == "__main__":
    main()
