"""Panels of curves as SVG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.pages.figures import STYLE, plain, save
from reports.pages.palette import Look, looks, policy_looks
from reports.paper.exhibit import Curve, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

SUFFIXES = ("svg", "pdf")
_POLICIES = ("none", "lru", "lfu", "belady")
_MOST_ACROSS = 3


def draw(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    """Write the figure in each format; returns the files."""
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        save(_figure(panels), folder, name, SUFFIXES)
    return [folder / f"{name}.{suffix}" for suffix in SUFFIXES]


def _figure(panels: Sequence[Panel]) -> MplFigure:
    from matplotlib.figure import Figure

    across = min(_MOST_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(1.4 + 3.7 * across, 1.0 + 3.1 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i < len(panels):
            _paint(ax, panels[i])
        else:
            ax.set_axis_off()
    _legend(figure, list(axes.flat))
    return figure


def _paint(ax: Axes, panel: Panel) -> None:
    styles = _looks(panel.curves)
    for curve in panel.curves:
        _curve(ax, curve, styles[curve.look or curve.name])
    ax.set_title(plain(panel.title), fontsize=8)
    ax.set_xlabel(plain(panel.x))
    ax.set_ylabel(plain(panel.y))
    if panel.heights is not None:
        ax.set_ylim(*panel.heights)
    if "x" in panel.logs:
        ax.set_xscale("log")
    if "y" in panel.logs:
        ax.set_yscale("log")


def _looks(curves: Sequence[Curve]) -> dict[str, Look]:
    names = [c.look or c.name for c in curves]
    policies = {
        name: Look(look.light, look.dark, look.symbol, look.marker)
        for name, look in policy_looks(n for n in names if n in _POLICIES).items()
    }
    return looks(n for n in names if n not in policies) | policies


def _curve(ax: Axes, curve: Curve, look: Look) -> None:
    for i, (low, high) in enumerate(curve.bands):
        ax.fill_between(
            list(curve.xs), list(low), list(high), color=look.light, alpha=0.15 + 0.2 * i, lw=0
        )
    marks, printed = curve.style == "marks", curve.how == "printed"
    many: Any = {"linewidth": 0.7, "alpha": 0.6, "marker": ""} if curve.look == "layers" else {}
    ax.plot(
        curve.xs,
        curve.ys,
        **{
            "color": look.light,
            "marker": "" if curve.style == "steps" else look.marker,
            "linestyle": "none" if marks else "--" if printed else "-",
            "fillstyle": "none" if printed else "full",
            "drawstyle": "steps-pre" if curve.style == "steps" else "default",
            "markersize": 4.5,
            "linewidth": 1.3,
            "label": "_many" if many else plain(curve.name),
            **({"markevery": 8} if printed and not marks else {}),
            **many,
        },
    )


def _legend(figure: MplFigure, axes: Sequence[Axes]) -> None:
    """One legend of all names, where a panel has several curves that can be told apart."""
    entries = [ax.get_legend_handles_labels() for ax in axes]
    handles: dict[str, Any] = {}
    for artists, names in entries:
        for handle, name in zip(artists, names, strict=True):
            handles.setdefault(name, handle)
    if any(len(names) > 1 for _, names in entries):
        widest = 0.45 + 0.055 * max(len(name) for name in handles)  # inches of mark and name
        columns = max(1, min(len(handles), 4, int(figure.get_figwidth() / widest)))
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=7
        )
