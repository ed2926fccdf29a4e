"""Which points of the runs answer to a cell of the paper."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from reports.findings.points import Point, short_name
from reports.paper.published import MODELS
from reports.paper.source import Source

PAPER_TEXT = "wikitext2"
_UNCHANGED = re.compile(r"[\d.]+ bit")  # weights as they are, only their bits are counted


def row_name(point: Point) -> str:
    """The paper's row that a point belongs to: its series, with the pattern where it has one."""
    return f"{point.series} {point.pattern}".strip()


def unchanged(point: Point) -> bool:
    """Whether the weights are those of the model, not quantised before."""
    return bool(_UNCHANGED.fullmatch(point.setting.quant)) or not point.setting.quant


def of_model(points: Iterable[Point], model: str) -> list[Point]:
    return [p for p in points if p.setting.model == model]


def alike(points: Sequence[Point]) -> list[Point]:
    """Those points that were measured the same way: text, windows, window length and type.

    Of several ways the one of most points; ties go to the paper's text, then to more tokens.
    Perplexities of different windows must not share a column or a curve.
    """
    groups: dict[tuple[str, float, float, str], list[Point]] = {}
    for p in points:
        s = p.setting
        groups.setdefault((s.text, s.windows, s.window_tokens, s.dtype), []).append(p)
    if not groups:
        return []
    return groups[max(groups, key=lambda way: (len(groups[way]), *_preferred(way)))]


def _preferred(way: tuple[str, float, float, str]) -> tuple[bool, float, str]:
    text, windows, tokens, dtype = way
    return text == PAPER_TEXT, windows * tokens, dtype


def twin_models(points: Iterable[Point]) -> list[str]:
    """Models of the runs that the paper does not have, by name."""
    return sorted({p.setting.model for p in points} - set(MODELS))


def models_shown(points: Sequence[Point], paper: Iterable[str]) -> list[str]:
    """The paper's models that were run, in its order, then the twins."""
    have = {p.setting.model for p in points}
    return [m for m in paper if m in have] + twin_models(points)


def title_of(model: str) -> str:
    """The model as the paper writes it, or its name with the remark that it is a twin."""
    return MODELS.get(model, f"{short_name(model)} (twin)")


def how_of(model: str) -> str:
    return "measured" if model in MODELS else "twin"


def at_density(points: Iterable[Point], name: str, density: float) -> Point | None:
    """The point of a row at an asked density; dense at any. Of several, the first by key."""
    return min(all_at(points, name, density), key=lambda p: p.point_key, default=None)


def all_at(points: Iterable[Point], name: str, density: float) -> list[Point]:
    """Every point that `at_density` could mean."""
    return [
        p
        for p in points
        if row_name(p) == name
        and unchanged(p)
        and math.isfinite(p.ppl)
        and (name == "dense" or math.isclose(p.density, density, abs_tol=1e-9))
        and p.allocation in ("", "paper")
    ]


def accuracy(source: Source, point: Point, task: str) -> float | None:
    """Accuracy on a downstream task in per cent; None where it was not measured."""
    value = _column(source, point, task)
    return None if value is None else 100 * value


def _column(source: Source, point: Point, task: str, end: str = "") -> float | None:
    """The task's column with that end; MGSM's harness name says that answers are generated."""
    row = source.row(point)
    values = (row.get(f"acc_{name}{end}") for name in (task, f"{task}_direct"))
    return next((float(v) for v in values if v is not None and v == v), None)


def error_notes(source: Source, points: Iterable[Point], tasks: Iterable[str]) -> list[str]:
    """How rough the accuracies of a model are, where few documents were asked."""
    worst: dict[str, float] = {}
    names = list(tasks)
    for p in points:
        errors = [e for t in names if (e := _column(source, p, t, "_stderr")) is not None]
        worst[p.setting.model] = max([worst.get(p.setting.model, 0.0), *errors])
    return [
        f"{model}: standard errors of accuracies up to {100 * error:.1f} points"
        for model, error in sorted(worst.items())
        if error
    ]


def middle(values: Iterable[float]) -> float:
    """The middle one of distinct values, the lower of two."""
    ordered = sorted(set(values))
    return ordered[(len(ordered) - 1) // 2]


def text_notes(points: Iterable[Point]) -> list[str]:
    """What perplexities were measured on, one sentence a model."""
    texts = {}
    for p in points:
        s = p.setting
        texts[s.model, s.text, s.windows, s.window_tokens, s.dtype] = s.text == PAPER_TEXT
    return [
        f"{model}: {windows:g} windows of {tokens:g} tokens of {text}, {dtype}"
        + ("" if same else f"; the paper has all of {PAPER_TEXT}")
        for (model, text, windows, tokens, dtype), same in sorted(texts.items())
    ]
