"""Figures 3, 4 and 10 (left): how large activations are, and how many a threshold leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from reports.findings.points import Point
from reports.paper.curves import gamma_figure
from reports.paper.exhibit import Curve, Made, Panel
from reports.paper.lookup import alike, how_of, models_shown, of_model, text_notes, title_of
from reports.paper.published import MODELS
from reports.paper.source import Magnitudes, Source

BINS_PER_DECADE = 8
SHARES = [k / 200 for k in range(1, 200)]
_RANGE = (-6, 3)  # decades that a histogram covers
_WAYS = {
    "glu-oracle (global-threshold)": "Global threshold",
    "glu-oracle (layer-threshold)": "Per-layer threshold",
    "glu-oracle": "Per-token top-k",
}


def histogram_figure(source: Source) -> Made:
    """Figure 3: the magnitudes of GLU activations of a model's last layer."""
    panels = []
    for model, magnitudes in _ordered(source.magnitudes):
        layer = len(magnitudes.counts) - 1
        xs, ys, zeros = histogram(magnitudes, layer)
        title = f"{title_of(model)}, layer {layer}: {zeros:.1%} exactly zero".replace("%", " %")
        curve = Curve("share of activations", xs, ys, how_of(model), "steps", "dip")
        panels.append(Panel(title, "abs(GLU)", "share", [curve], "x"))
    return Made(panels=panels, notes=_counted(source))


def _ordered(magnitudes: dict[str, Magnitudes]) -> list[tuple[str, Magnitudes]]:
    return sorted(magnitudes.items(), key=lambda item: (item[0] not in MODELS, item[0]))


def _counted(source: Source) -> list[str]:
    return [
        f"{model}: {sum(map(sum, magnitudes.counts)):,} activations of the calibration text"
        for model, magnitudes in _ordered(source.magnitudes)
    ]


def histogram(magnitudes: Magnitudes, layer: int) -> tuple[list[float], list[float], float]:
    """Upper edges of logarithmic bins, the share of activations in each, and that of exact zeros.

    A counted bin goes whole to where its geometric middle lies; it is far narrower than these.
    """
    total = sum(magnitudes.counts[layer])
    first, last = (BINS_PER_DECADE * decade for decade in _RANGE)
    shares = dict.fromkeys(range(first, last), 0.0)
    zeros = 0.0
    for low, high, count in zip(
        magnitudes.low, magnitudes.high, magnitudes.counts[layer], strict=True
    ):
        if low <= 0:
            zeros += count / total
            continue
        bin_index = math.floor(BINS_PER_DECADE * math.log10(math.sqrt(low * high)))
        shares[min(max(bin_index, first), last - 1)] += count / total
    used = [bin_index for bin_index, share in shares.items() if share > 0]
    inside = range(min(used, default=first), max(used, default=first) + 1)
    edges = [10 ** ((bin_index + 1) / BINS_PER_DECADE) for bin_index in inside]
    return edges, [shares[bin_index] for bin_index in inside], zeros


def quantiles(magnitudes: Magnitudes, layer: int, shares: Sequence[float]) -> list[float]:
    """The magnitude that each share of the activations stays under; shares rise."""
    total, below, answer, i = sum(magnitudes.counts[layer]), 0, [], 0
    for high, count in zip(magnitudes.high, magnitudes.counts[layer], strict=True):
        below += count
        while i < len(shares) and below >= shares[i] * total:
            answer.append(high)
            i += 1
    return answer


def distribution_figure(source: Source) -> Made:
    """Figure 10: normalised activations by percentile (left), throughput over gamma (right)."""
    panels = []
    for model, magnitudes in _ordered(source.magnitudes):
        curves = [
            Curve(f"layer {layer}", [100 * s for s in SHARES], ys, how_of(model), "steps", "layers")
            for layer in range(len(magnitudes.counts))
            if (ys := _normalised(magnitudes, layer))
        ]
        title = f"{title_of(model)}, every layer"
        panels.append(Panel(title, "percentile", "abs(GLU) / largest of layer", curves, "y"))
    right, used = gamma_figure(source)
    return Made(panels=[*panels, *right], notes=[*_counted(source), *text_notes(used)])


def _normalised(magnitudes: Magnitudes, layer: int) -> list[float]:
    used = [high for high, n in zip(magnitudes.high, magnitudes.counts[layer], strict=True) if n]
    if not used or max(used) <= 0:
        return []
    return [q / max(used) for q in quantiles(magnitudes, layer, SHARES)]


def threshold_figure(source: Source) -> Made:
    """Figure 4: activations kept by layer under three ways to choose half of them."""
    points = [p for p in source.points if p.series in _WAYS and abs(p.density - 0.5) < 1e-9]
    panels, used = [], []
    for model in models_shown(points, MODELS):
        of_this_model = alike(of_model(points, model))
        for series, title in _WAYS.items():
            matching = [p for p in of_this_model if p.series == series]
            panels += [p for point in matching[:1] if (p := _layers(source, point, title))]
            used += matching[:1]
    return Made(panels=panels, notes=[*text_notes(used), *_dense(used)])


def _layers(source: Source, point: Point, title: str) -> Panel | None:
    """Mean density of each layer, with its deviation and its range over tokens."""
    groups = list(source.reads(point).values())
    tokens = source.row(point).get("tokens")
    if len(groups) != 1 or not tokens:
        return None
    group, units = groups[0], groups[0]["units"]
    means = [used / tokens / units for used in group["used_by_layer"]]
    curve = Curve(
        title,
        list(range(len(means))),
        means,
        how_of(point.setting.model),
        "line",
        "dip",
        tuple(_bands(group, means, tokens)),
    )
    model = title_of(point.setting.model)
    heading = f"{model}: {title}, PPL {point.ppl:.2f}"
    return Panel(heading, "layer", "activation density", [curve], heights=(0.0, 1.0))


def _bands(
    group: dict, means: Sequence[float], tokens: int
) -> Iterator[tuple[list[float], list[float]]]:
    if "used_least_by_layer" not in group:
        return  # top-k: every token uses the same number
    units = group["units"]
    yield (
        [least / units for least in group["used_least_by_layer"]],
        [most / units for most in group["used_most_by_layer"]],
    )
    squares = group["used_squares_by_layer"]
    spread = [
        math.sqrt(max(0.0, square / tokens / units**2 - mean**2))
        for square, mean in zip(squares, means, strict=True)
    ]
    yield (
        [mean - s for mean, s in zip(means, spread, strict=True)],
        [mean + s for mean, s in zip(means, spread, strict=True)],
    )


def _dense(points: Sequence[Point]) -> list[str]:
    perplexities = {p.setting.model: p.ppl_dense for p in points if math.isfinite(p.ppl_dense)}
    return [f"{model}: dense perplexity {ppl:.2f}" for model, ppl in sorted(perplexities.items())]
