"""Figures 12 and 13: how DIP's density is split over its groups."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from reports.findings.frontier import pareto
from reports.findings.points import Point
from reports.paper.exhibit import Curve, Made, Panel
from reports.paper.lookup import (
    alike,
    how_of,
    models_shown,
    of_model,
    text_notes,
    title_of,
    unchanged,
)
from reports.paper.published import MODELS
from reports.paper.source import PaperRun, Source

PAPER_LINE = (0.98499307, 0.29976478)  # slope and intercept in logits, of the released allocation
_DENSITIES = [k / 100 for k in range(20, 100)]


def input_density(line: tuple[float, float], density: float) -> float:
    """d_in at an MLP density: a straight line in logits (appendix B.1)."""
    slope, intercept = line
    return 1 / (1 + math.exp(-(slope * math.log(density / (1 - density)) + intercept)))


def allocation_figure(source: Source) -> Made:
    """Trials of a study over both densities, their frontier, the fit of it, and the published."""
    panels, notes = [], []
    for run in source.runs:
        trials = [t for t in map(_trial, run.trials) if t is not None]
        if len(trials) < 3:
            continue
        panels.append(
            Panel(
                _model(run),
                "density of W_down",
                "density of W_up, W_gate",
                _curves(trials, run.fit),
            )
        )
        notes.append(f"{run.run.title}: {len(trials)} trials on {run.fit.get('text', 'its text')}")
    return Made(panels=panels, notes=notes)


def _model(run: PaperRun) -> str:
    return ", ".join(map(title_of, sorted({p.setting.model for p in run.run.points})))


def _trial(row: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """(d_in, d_mid, MLP density, ΔPPL) of a trial that was measured whole; else None."""
    try:
        values = [float(row[n]) for n in ("input", "intermediate", "mlp_density", "delta_ppl")]
    except (KeyError, ValueError):
        return None
    usable = row.get("state") == "done" and all(map(math.isfinite, values))
    return (values[0], values[1], values[2], values[3]) if usable else None


def _curves(
    trials: Sequence[tuple[float, float, float, float]], fit: Mapping[str, float]
) -> list[Curve]:
    smallest = pareto([t[2] for t in trials], [-t[3] for t in trials])
    curves = [
        _dots("trials", trials, "glu-oracle"),
        _dots("best at their size", [trials[i] for i in smallest], "dip"),
    ]
    if "slope" in fit and "intercept" in fit:
        curves.append(_line("our fit", (fit["slope"], fit["intercept"]), "twin", "dip"))
    return [*curves, _line("published fit", PAPER_LINE, "printed", "dense")]


def _dots(name: str, trials: Sequence[tuple[float, float, float, float]], look: str) -> Curve:
    return Curve(name, [t[1] for t in trials], [t[0] for t in trials], "twin", "marks", look)


def _line(name: str, line: tuple[float, float], how: str, look: str) -> Curve:
    pairs = [(3 * d - 2 * input_density(line, d), input_density(line, d)) for d in _DENSITIES]
    inside = [(mid, d_in) for mid, d_in in pairs if 0 < mid <= 1]
    return Curve(name, [m for m, _ in inside], [d for _, d in inside], how, "line", look)


def split_figure(source: Source) -> Made:
    """Figure 13: perplexity when W_up and W_gate have unequal densities, a curve for each size."""
    points = [p for p in source.points if p.series == "dip-split" and math.isfinite(p.ppl)]
    panels, used = [], []
    for model in models_shown(points, MODELS):
        members = alike([p for p in of_model(points, model) if unchanged(p)])
        curves = []
        for density in sorted({p.density for p in members}):
            spots = {_lean(source, p): p.ppl for p in members if p.density == density}
            if len(spots) > 1:
                xs = sorted(spots)
                ys = [spots[x] for x in xs]
                curves.append(Curve(f"MLP density {density:g}", xs, ys, how_of(model)))
        if curves:
            used += members
            x = "density of W_up less that of W_gate"
            panels.append(Panel(title_of(model), x, "perplexity ↓", curves, "y"))
    return Made(panels=panels, notes=text_notes(used))


def _lean(source: Source, point: Point) -> float:
    return float(json.loads(source.row(point).get("parameters") or "{}").get("lean", 0.0))
