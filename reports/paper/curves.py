"""Figures 6, 8, 9, 10 (right), 11 and 14: perplexity, accuracy and throughput as curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from reports.findings.decisions import frontier_of, interpolated_at
from reports.findings.points import Point
from reports.paper.exhibit import Curve, Made, Panel
from reports.paper.lookup import (
    accuracy,
    alike,
    how_of,
    middle,
    models_shown,
    of_model,
    row_name,
    text_notes,
    title_of,
    unchanged,
)
from reports.paper.published import METHODS, MODELS, published
from reports.paper.source import Source

PPL = "perplexity ↓"
DENSITY = "MLP density"
WORST = 12
"""Times the best perplexity: the top of Figure 9, where something is worse than that."""
_OF_TABLES = ("table1", "table3", "table4")  # the printed values at 50, 60 and 40 %


def density_figure(source: Source, paper_models: Sequence[str], names: Sequence[str]) -> Made:
    """Figures 8 and 14: perplexity (and 5-shot MMLU, where measured) over MLP density.

    The printed values of Tables 1, 3 and 4 are drawn as marks: the figures' own have no numbers.
    """
    points = [p for p in source.points if unchanged(p) and p.allocation in ("", "paper")]
    panels, used = [], []
    for model in models_shown(points, paper_models):
        members = alike([p for p in of_model(points, model) if row_name(p) in names])
        if len({p.density for p in members if not p.dense}) < 2:
            continue
        used += members
        for metric, title in (("ppl", PPL), ("mmlu", "MMLU accuracy ↑")):
            curves = [*_by_density(source, members, names, metric), *_printed(model, names, metric)]
            if any(c.how != "printed" for c in curves):
                logs = "y" if metric == "ppl" else ""
                panels.append(Panel(title_of(model), DENSITY, title, curves, logs))
    return Made(panels=panels, notes=text_notes(used))


def _by_density(
    source: Source, points: Sequence[Point], names: Sequence[str], metric: str
) -> Iterator[Curve]:
    for name in names:
        by_density = {p.density: p for p in points if row_name(p) == name}
        xs, ys = [], []
        for density in sorted(by_density):
            p = by_density[density]
            y = p.ppl if metric == "ppl" else accuracy(source, p, metric)
            if y is not None and math.isfinite(y) and math.isfinite(p.mlp_density):
                xs.append(p.mlp_density)
                ys.append(y)
        if xs:
            style = "marks" if len(xs) == 1 else "line"
            how = how_of(points[0].setting.model)
            yield Curve(METHODS[name], xs, ys, how, style, name.partition(" ")[0])


def _printed(model: str, names: Sequence[str], metric: str) -> Iterator[Curve]:
    for name in names:
        values = [
            p
            for p in published()
            if (p.model, p.method, p.metric) == (model, name, metric)
            and p.exhibit in _OF_TABLES
            and not p.bound
        ]
        spots = sorted({(p.density or 1.0, p.value) for p in values})
        if spots:
            xs, ys = zip(*spots, strict=True)
            look = name.partition(" ")[0]
            yield Curve(f"{METHODS[name]}, printed", xs, ys, "printed", "marks", look)


def oracle_figure(source: Source) -> Made:
    """Figure 6: knowing the activations against predicting them, with SwiGLU and with ReLU."""
    titles = {"glu-oracle": "GLU pruning (oracle)", "dejavu": "Predictive GLU pruning"}
    points = [p for p in source.points if unchanged(p) and row_name(p) in (*titles, "dense")]
    panels, used = [], []
    for model in dict.fromkeys(p.setting.model for p in points):  # as the sweep has them
        members = alike(of_model(points, model))
        if {row_name(p) for p in members} < set(titles):
            continue
        used += members
        for metric, title in (("ppl", PPL), ("mmlu", "MMLU accuracy ↑")):
            curves = [
                Curve(titles[c.look], c.xs, c.ys, c.how, c.style, c.look)
                for c in _by_density(source, members, list(titles), metric)
            ]
            if len(curves) == len(titles):
                logs = "y" if metric == "ppl" else ""
                panels.append(Panel(title_of(model), "activation density", title, curves, logs))
    return Made(panels=panels, notes=text_notes(used))


def memory_figure(source: Source) -> Made:
    """Figure 9: perplexity over the bytes that a token uses, masks of static pruning included."""
    by_model: dict[str, list[Point]] = {}
    for p in source.points:
        if p.policy in ("", "none", "lfu") and math.isfinite(p.ppl) and _compression(p):
            by_model.setdefault(p.setting.model, []).append(p)
    groups: dict[str, dict[str, list[Point]]] = {}
    for model, members in by_model.items():
        for p in alike(members):
            groups.setdefault(model, {}).setdefault(_compression(p), []).append(p)
    panels, used = [], []
    for model in sorted(groups, key=lambda m: (m not in MODELS, m)):
        if len(groups[model]) < 2:
            continue
        curves = [
            _memory_curve(source, name, members, how_of(model))
            for name, members in sorted(groups[model].items())
        ]
        used += [p for members in groups[model].values() for p in members]
        curves = [c for c in curves if c.xs]
        panels.append(Panel(title_of(model), "memory, GB", PPL, curves, "y", _heights(curves)))
    panels = [p for p in panels if p.curves]
    return Made(panels=panels, notes=[*text_notes(used), *_above(panels)])


def _heights(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Ends of the ordinate, where a curve goes further up than WORST allows."""
    values = [y for c in curves for y in c.ys]
    best, worst = min(values, default=0.0), max(values, default=0.0)
    return (0.9 * best, WORST * best) if worst > WORST * best else None


def _above(panels: Sequence[Panel]) -> list[str]:
    """What lies above the top of a panel."""
    beyond = [
        f"{c.name} at {x:.3f} GB ({y:.3g})"
        for p in panels
        if p.heights
        for c in p.curves
        for x, y in zip(c.xs, c.ys, strict=True)
        if y > p.heights[1]
    ]
    return [f"above the top, with their perplexities: {', '.join(beyond)}"] if beyond else []


def _compression(point: Point) -> str:
    """`BQ`, `VQ`, `SparseGPT + BQ4`, `BQ4 + DIP`: what is done to the weights; empty for others."""
    quant = point.setting.quant
    kind = {"gptq": "BQ", "gptvq": "VQ", "rtn": "RTN"}.get(quant.partition(" ")[0], "")
    if not kind:
        return ""
    bits = next((w for w in quant.split() if w.replace(".", "").isdigit()), "")
    if point.dense:
        return kind
    if point.method == "sparsegpt":
        return f"SparseGPT ({point.pattern}) + {kind}{bits}"
    return f"{kind}{bits} + DIP" if point.series == "dip" else ""


def _memory_curve(source: Source, name: str, members: Sequence[Point], how: str) -> Curve:
    spots = {(b, p.ppl) for p in members if (b := used_bytes(source, p)) is not None}
    ordered = sorted(spots)
    look = {"BQ": "up", "VQ": "cats", "RTN": "gate", "BQ4 + DIP": "dip"}.get(name, "")
    style = "marks" if len(ordered) == 1 else "line"
    return Curve(name, [b / 1e9 for b, _ in ordered], [y for _, y in ordered], how, style, look)


def used_bytes(source: Source, point: Point) -> float | None:
    """Bytes that a token uses, the mean: static ones and those of the pruned groups."""
    static, reads = source.row(point).get("static_bytes"), source.reads(point)
    tokens = source.row(point).get("tokens")
    if static is None or not tokens:
        return None
    return static + sum(sum(g["used_by_layer"]) * g["unit_bytes"] / tokens for g in reads.values())


def gamma_figure(source: Source) -> tuple[list[Panel], list[Point]]:
    """Figure 10, right: throughput over gamma, read at the run's budgets of perplexity.

    A value is interpolated on the frontier of one gamma; none lies outside of what was measured.
    """
    panels, used = [], []
    for run in source.runs:
        done = [p for p in run.run.points if p.measured and row_name(p) in ("dip", "dip-ca")]
        for model in models_shown(done, MODELS):
            members = _one_device([p for p in of_model(done, model) if p.policy == "lfu"])
            gammas = sorted({p.gamma for p in members})
            if len(gammas) < 4:
                continue
            used += members
            dense = members[0].ppl_dense
            curves = []
            for budget in run.run.budgets:
                speeds = _at_budget(members, gammas, budget.limit(dense))
                if len(speeds) > 1:
                    xs, ys = zip(*speeds, strict=True)
                    name = f"{budget.label} ({dense + budget.limit(dense):.2f})"
                    curves.append(Curve(name, xs, ys, how_of(model)))
            if curves:
                panels.append(Panel(f"{title_of(model)}, DIP-CA", "γ", "tok/s", curves, "x"))
    return panels, used


def _at_budget(
    points: Sequence[Point], gammas: Sequence[float], limit: float
) -> list[tuple[float, float]]:
    speeds = []
    for gamma in gammas:
        value = interpolated_at([p for p in points if p.gamma == gamma], limit)
        if value is not None:
            speeds.append((gamma, value.tokens_per_s))
    return speeds


def _one_device(points: Sequence[Point]) -> list[Point]:
    """The points of one device setting and allocation: the middle DRAM, then the middle Flash."""
    remaining = [p for p in points if p.allocation in ("", "paper")]
    for name in ("dram_gb", "flash_gbps"):
        if remaining:
            chosen = middle(getattr(p.setting, name) for p in remaining)
            remaining = [p for p in remaining if getattr(p.setting, name) == chosen]
    return remaining


def policy_figure(source: Source) -> Made:
    """Figure 11: throughput over perplexity of DIP under each cache policy, and of DIP-CA."""
    titles = {"none": "No cache", "lru": "LRU", "lfu": "LFU", "belady": "Belady (oracle)"}
    done = [p for p in source.points if p.measured and unchanged(p)]
    panels, used = [], []
    for model in models_shown(done, MODELS):
        both = [p for p in of_model(done, model) if row_name(p) in ("dip", "dip-ca")]
        of_one_device = _one_device(alike(_with_policies(both)))
        plain = [p for p in of_one_device if row_name(p) == "dip"]
        aware = [p for p in of_one_device if row_name(p) == "dip-ca" and p.gamma == 0.2]
        if len({p.policy for p in plain} & set(titles)) < 3:
            continue
        curves = [
            _speed_curve(f"DIP, {titles[name]}", members, model, name)
            for name in titles
            if (members := [p for p in plain if p.policy == name])
        ]
        curves += [_speed_curve("DIP-CA, LFU", aware, model, "dip-ca")] if aware else []
        used += [*plain, *aware]
        panels.append(Panel(title_of(model), PPL, "tok/s", curves))
    return Made(panels=panels, notes=text_notes(used))


def _with_policies(points: Sequence[Point]) -> list[Point]:
    """The points of those ways of measuring that have several policies."""
    ways: dict[tuple[object, ...], set[str]] = {}
    for p in points:
        ways.setdefault(_way(p), set()).add(p.policy)
    return [p for p in points if len(ways[_way(p)]) > 1]


def _way(p: Point) -> tuple[object, ...]:
    return p.setting.text, p.setting.windows, p.setting.window_tokens, p.setting.dtype


def _speed_curve(name: str, points: Sequence[Point], model: str, look: str) -> Curve:
    line = frontier_of(points)
    return Curve(
        name, [p.ppl for p in line], [p.tokens_per_s for p in line], how_of(model), look=look
    )


def maker(
    make: Callable[..., Made], *arguments: object, **named: Iterable[str]
) -> Callable[[Source], Made]:
    """`make` with everything but the source filled in."""
    return lambda source: make(source, *arguments, **named)
