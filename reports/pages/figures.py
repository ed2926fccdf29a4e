"""Static figures for the Markdown report and for papers: SVG, PNG and PDF by matplotlib.

Each figure is a grid of small charts, one a device setting, in the colours of the HTML page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.findings.cache_aware import plain_frontier
from reports.findings.decisions import frontier_of
from reports.findings.points import (
    Point,
    Setting,
    by_series,
    by_setting,
    device_label,
    weights_label,
)
from reports.findings.policies import compared_series, policy_names
from reports.pages.palette import Look, looks, policy_looks
from reports.reading.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

MOST_CHARTS = 12  # small charts in one figure
LONGEST_TEXT = 56
WIDE_LABEL = 1.5  # inches that an entry of a legend may take
_DASHES = {
    "dot": ":",
    "dash": "--",
    "dashdot": "-.",
    "longdash": (0, (7, 3)),
    "longdashdot": (0, (7, 2, 1, 2)),
    "solid": "-",
}
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa4b2",
    "axes.labelcolor": "#566071",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaf0",
    "xtick.color": "#566071",
    "ytick.color": "#566071",
    "legend.frameon": False,
    "svg.hashsalt": "reports",
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "figure.facecolor": "white",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure on disk; `path` is relative to the run folder, `alt` says what it shows."""

    kind: str  # frontier, cache-aware or policies
    path: str
    alt: str


Painter = Callable[["Axes", list[Point], Run], None]


def draw(run: Run, folder: Path, suffixes: Sequence[str] = ("svg", "png")) -> list[Figure]:
    """Draw every figure of `run` into `folder`, in each format; returns them in page order."""
    import matplotlib as mpl

    if not any(p.measured for p in run.points):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        return [
            Figure(
                kind,
                save(_grid(panels, painter, run, y_title), folder, f"{kind}-{number}", suffixes),
                alt,
            )
            for kind, number, panels, painter, y_title, alt in _wanted(run)
        ]


def _wanted(run: Run) -> Iterator[tuple[str, int, list[list[Point]], Painter, str, str]]:
    """(kind, number of the weights, points by panel, painter, y title, alternative text)."""
    measured = by_setting(p for p in run.points if p.measured)
    several_policies = len(policy_names(run.points)) > 1
    for number, settings in enumerate(run.of_weights().values(), 1):
        panels = [measured[s] for s in settings if s in measured]
        if not panels:
            continue
        name = weights_label(settings[0])
        alt = f"tokens per second against loss of perplexity of {name}"
        yield "frontier", number, panels, _paint_frontier, "tok/s", f"{alt}, by method"
        distinct = _one_per_memory(panels)
        if any(p.cache_aware for panel in panels for p in panel):
            alt_flash = f"Flash bytes per token against loss of perplexity of {name}"
            yield "cache-aware", number, distinct, _paint_flash, "Flash MB/token", alt_flash
        if several_policies:
            yield "policies", number, distinct, _paint_policies, "tok/s", f"{alt}, by policy"


def _one_per_memory(panels: list[list[Point]]) -> list[list[Point]]:
    """One panel for each DRAM size: the middle one of those that differ in bandwidth only."""
    groups: dict[tuple[object, ...], list[list[Point]]] = {}
    for panel in panels:
        s = panel[0].setting
        memory = (s.device, s.dram_gb, s.context, s.cache_start, s.cache_scope)
        groups.setdefault(memory, []).append(panel)
    return [members[len(members) // 2] for members in groups.values()]


def _grid(panels: list[list[Point]], painter: Painter, run: Run, y_title: str) -> MplFigure:
    from matplotlib.figure import Figure as MplFigure

    panels = panels[:MOST_CHARTS]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = MplFigure(figsize=(1.2 + 3.9 * across, 0.8 + 3.1 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i >= len(panels):
            ax.set_axis_off()
            continue
        setting = panels[i][0].setting
        painter(ax, panels[i], run)
        _frame(ax, panels[i], run, setting)
        ax.set_ylabel(y_title if i % across == 0 else "")
        ax.set_xlabel("ΔPPL against dense" if i >= len(panels) - across else "")
    _legend(figure, axes.flat)
    return figure


def _frame(ax: Axes, panel: list[Point], run: Run, setting: Setting) -> None:
    """Title, budget lines, and a view around the budgets."""
    ax.set_title(plain(device_label(setting, run.told_apart)))
    limits = [d.limit for d in run.decided(setting) if isfinite(d.limit)]
    for limit in limits:
        ax.axvline(limit, color="#c3cad6", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
    lowest = min(p.delta_ppl for p in panel)
    highest = max(limits, default=0) * 1.4 or max(p.delta_ppl for p in panel) * 1.05 or 1
    ax.set_xlim(min(0, lowest) - 0.03 * highest, highest)
    _fit_height(ax)


def _fit_height(ax: Axes) -> None:
    """Scale the ordinate to what lies inside the abscissa's view."""
    left, right = ax.get_xlim()
    heights = [
        y
        for line in ax.get_lines()
        for x, y in zip(_floats(line.get_xdata()), _floats(line.get_ydata()), strict=False)
        if line.get_gid() == "points" and left <= x <= right
    ]
    if heights:
        pad = 0.08 * (max(heights) - min(heights) or max(heights) or 1)
        ax.set_ylim(min(heights) - pad, max(heights) + pad)


def _floats(values: Any) -> list[float]:
    return [float(v) for v in values]


def _legend(figure: MplFigure, axes: Sequence[Axes] | Any) -> None:
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    if handles:
        columns = min(len(handles), max(2, int(figure.get_figwidth() / WIDE_LABEL)))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def _paint_frontier(ax: Axes, panel: list[Point], run: Run) -> None:
    styles = looks(p.series for p in run.points)
    for name, members in by_series(panel).items():
        real = [p for p in members if not p.bound]
        look, line = styles[name], frontier_of(real or members)
        on_line = {id(p) for p in line}
        _scatter(ax, [p for p in members if id(p) not in on_line], look)
        style = "-" if real else ":"
        _line(ax, line, [p.tokens_per_s for p in line], name, look, style, bool(real))


def _paint_flash(ax: Axes, panel: list[Point], run: Run) -> None:
    styles, policies = looks(p.series for p in run.points), policy_looks(policy_names(run.points))
    aware = [p for p in panel if p.cache_aware and isfinite(p.flash_bytes_per_token)]
    twins = {(p.plain, p.policy) for p in aware}
    several = len({plain_name for plain_name, _ in twins}) > 1
    for plain_name, policy in sorted(twins):
        members = [p for p in panel if p.series == plain_name and p.policy == policy]
        costs, flash = plain_frontier(members)
        look = policies[policy]
        color = styles[plain_name].light if several and plain_name in styles else look.light
        heights = [b / 1e6 for b in flash]
        shown = Look(color, look.dark, look.symbol, look.marker)
        name, style = f"{plain_name} · {policy}", _DASHES.get(look.dash, "-")
        _plot(ax, costs, heights, name, shown, style, True)
    gammas, ways = sorted({p.gamma for p in aware}), sorted({p.policy for p in aware})
    for gamma, policy in product(gammas, ways):
        points = [p for p in aware if p.gamma == gamma and p.policy == policy]
        if points:
            label = " · ".join([points[0].series, *([policy] if len(ways) > 1 else [])])
            marker = _GAMMA_MARKERS[gammas.index(gamma) % len(_GAMMA_MARKERS)]
            fill = _FILLS[ways.index(policy) % len(_FILLS)]
            _gamma(ax, points, f"{label} · γ {gamma:g}", styles[points[0].series], marker, fill)


_GAMMA_MARKERS = "Dsh^PpX*"
_FILLS = ("full", "none", "left", "top")


def _gamma(ax: Axes, points: list[Point], label: str, look: Look, marker: str, fill: Any) -> None:
    """Cache-aware points of one γ and policy: the marker tells the γ, its filling the policy."""
    ax.plot(
        [p.delta_ppl for p in points],
        [p.flash_bytes_per_token / 1e6 for p in points],
        marker,
        color=look.light,
        fillstyle=fill,
        markersize=5,
        label=plain(label),
        gid="points",
    )


def _paint_policies(ax: Axes, panel: list[Point], run: Run) -> None:
    styles = looks(p.series for p in run.points)
    policies = policy_looks(policy_names(run.points))
    shown = [n for n in compared_series(panel) if any(p.series == n for p in panel)]
    for name in shown[:1]:
        members = [p for p in panel if p.series == name]
        for policy, drawn in policies.items():
            line = frontier_of([p for p in members if p.policy == policy])
            look = Look(drawn.light, drawn.dark, drawn.symbol, drawn.marker)
            heights = [p.tokens_per_s for p in line]
            _line(
                ax,
                line,
                heights,
                f"{name} · {policy}",
                look,
                _DASHES.get(drawn.dash, "-"),
                True,
            )
    aware = {p.series for p in panel if p.cache_aware}
    for name in (n for n in shown[1:] if n in aware):
        line = frontier_of([p for p in panel if p.series == name])
        _line(ax, line, [p.tokens_per_s for p in line], name, styles[name], "-", True)


def _scatter(ax: Axes, points: list[Point], look: Look) -> None:
    for bound in (False, True):
        members = [p for p in points if p.bound == bound]
        ax.plot(
            [p.delta_ppl for p in members],
            [p.tokens_per_s for p in members],
            look.marker,
            color=look.light,
            fillstyle="none" if bound else "full",
            markersize=3,
            alpha=0.35,
            gid="points",
            rasterized=len(members) > 500,
        )


def _line(
    ax: Axes,
    points: list[Point],
    heights: list[float],
    name: str,
    look: Look,
    style: Any,
    filled: bool,
) -> None:
    if points:
        _plot(ax, [p.delta_ppl for p in points], heights, name, look, style, filled)


def _plot(
    ax: Axes,
    costs: list[float],
    heights: list[float],
    name: str,
    look: Look,
    style: Any,
    filled: bool,
) -> None:
    ax.plot(
        costs,
        heights,
        linestyle=style,
        marker=look.marker,
        color=look.light,
        fillstyle="full" if filled else "none",
        markersize=4.5,
        linewidth=1.4,
        label=plain(name),
        gid="points",
    )


def plain(text: str) -> str:
    """Text that matplotlib draws literally: no mathematics, no hidden label, not overlong."""
    short = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    escaped = " ".join(short.split()).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def save(
    figure: MplFigure, folder: Path, name: str, suffixes: Sequence[str] = ("svg", "png")
) -> str:
    """Write `name` in each format, whole or not at all; returns the first, from the run folder."""
    figure.draw_without_rendering()  # lays out once, not for each format
    figure.set_layout_engine("none")
    for suffix in suffixes:
        unfinished = folder / f".{name}.{os.getpid()}.{suffix}"
        figure.savefig(unfinished, format=suffix, dpi=144, metadata=_UNDATED.get(suffix, {}))
        unfinished.replace(folder / f"{name}.{suffix}")
    return f"{folder.name}/{name}.{suffixes[0]}"


_UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""A file is the same for the same run."""
