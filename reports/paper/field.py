"""What the papers of other methods print, beside what was measured here.

A published value has a source, which says where it stands, whether it was read there (`verified`)
or in an abstract, a README or notes of one (`abstract`), and under which protocol it was measured.
Only where that is the one of this tool is a difference given; a model that the source does not have
stands in columns of its own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from reports.findings.points import Point, short_name
from reports.paper.exhibit import Cell, Line, Made, Sheet
from reports.paper.field_sources import SOURCES, Origin
from reports.paper.lookup import accuracy, alike, of_model, row_name, text_notes, unchanged
from reports.paper.published import MODELS, Published
from reports.paper.source import Source

NAMES = {**MODELS, "llama-2-7b": "Llama-2-7B", "llama-2-chat": "Llama-2 chat"}
NAMES |= {"swiglu-300m": "SwiGLU 300M", "drelu-300m": "dReLU 300M", "llama-7b": "LLaMA-7B"}
NAMES |= {"silu-least": "SiLU of 0.1B to 1.2B, least", "silu-most": "SiLU of 0.1B to 1.2B, most"}
NAMES |= {"relu-least": "ReLU, least", "relu-most": "ReLU, most", "all-sizes": "its models"}
NAMES |= {"nine-llms-least": "nine LLMs, least", "nine-llms-most": "nine LLMs, most"}

METRICS = {
    "ppl": "perplexity ↓",
    "delta_ppl": "ΔPPL ↓",
    "mmlu": "MMLU ↑",
    "gsm8k": "GSM8K ↑",
    "piqa": "PIQA ↑",
    "mean8": "mean of 8 tasks ↑",
    "factoid_qa": "Factoid-QA ↑",
    "active": "activation ratio ↓",
    "commonsense": "commonsense tasks, points ↑",
    "reading": "reading comprehension, points ↑",
    "below_wanda": "perplexity below Wanda's ↑",
    "of_16_bit": "bytes, of bfloat16's ↓",
}
_TASKS = ("mmlu", "gsm8k", "piqa")

_ROUNDING = 0.002
"""Of a part of a window, as whole tokens make of it."""

_CODE = "dfloat11"
"""Dense, with the bits of the files; the only one here whose weights have none of a sweep."""

SEARCHED = {"teal": "greedy", "wina": "greedy", "was": "tpe"}
"""Shares that the source of a method searches for: where several were measured, these stand."""


@dataclass(frozen=True, slots=True)
class Value:
    """One published value; sparsity 0 is the dense model's."""

    source: str
    model: str
    method: str
    metric: str
    sparsity: float
    text: str

    def printed(self) -> Published:
        """As what stands in a cell."""
        return Published(
            exhibit="field",
            model=self.model,
            method=self.method,
            metric=self.metric,
            density=round(1 - self.sparsity, 6),
            budget=None,
            dram_gb=None,
            flash_gbps=None,
            value=float(self.text),
            text=self.text,
            bound="",
        )


@cache
def values() -> tuple[Value, ...]:
    """Every value, in the order of the sources."""
    lines = (files("reports") / "paper" / "field.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(lines)
    return tuple(
        Value(
            row["source"],
            row["model"],
            row["method"],
            row["metric"],
            float(row["sparsity"]),
            row["value"],
        )
        for row in rows
    )


def field_table(source: Source) -> Made:
    """A sheet for each source: a row a method and sparsity, a column a model and metric."""
    sheets, used = [], []
    for name, origin in SOURCES.items():
        sheet, points = _sheet(source, origin, [v for v in values() if v.source == name])
        sheets.append(sheet)
        used += points
    return Made(sheets, notes=[*map(_note, SOURCES.values()), *text_notes(used), _OTHERS])


_OTHERS = (
    "Of this tool: windows do not overlap, model-wide sparsity s is an MLP density and a share of"
    " attention of 1 - s each, and what stands beside a source that leaves first tokens dense"
    " leaves as many. Where a source's protocol is another, or its model, our value stands in a"
    " column of its own, and no difference is given"
)


def _note(origin: Origin) -> str:
    of = {"model": "all linear layers", "static": "all linear layers, here the MLPs alone"}.get(
        origin.scope, "the MLPs"
    )
    read = "read in the source" if origin.mark == "verified" else "from an abstract or notes"
    return f"{origin.title} ({origin.where}; {read}): sparsity of {of}. {origin.protocol}"


def _sheet(source: Source, origin: Origin, published: Sequence[Value]) -> tuple[Sheet, list[Point]]:
    by_cell = {(v.method, v.sparsity, v.model, v.metric): v for v in published}
    rows = list(dict.fromkeys((v.method, v.sparsity) for v in published))
    metrics = list(dict.fromkeys(v.metric for v in published))
    theirs = list(dict.fromkeys((v.model, v.metric) for v in published))
    found = _Measured(source, origin, rows)
    beside = [
        (model, metric)
        for model in sorted({p.setting.model for p in source.points})
        for metric in metrics
        if not (origin.ours and (model, metric) in theirs)
        and any(found.value(row, model, metric) is not None for row in rows if row[0] != "dense")
    ]
    models = {model for model, _ in theirs}
    lines = []
    for row in rows:
        cells = [_printed(by_cell.get((*row, *column)), found, row, *column) for column in theirs]
        cells += [_measured(found, row, *column, models) for column in beside]
        lines.append(Line(_label(*row, origin.scope), cells))
    columns = [*(_column(*c) for c in theirs), *(f"{_column(*c)}, measured here" for c in beside)]
    twins = [False] * len(theirs) + [model not in models for model, _ in beside]
    return Sheet(origin.title, columns, twins, lines), found.used


def _label(method: str, sparsity: float, scope: str) -> str:
    growth = "PPL-" if scope == "ppl" else ""
    return f"{method}, {growth}{100 * sparsity:g} %" if sparsity else method


def _column(model: str, metric: str) -> str:
    return f"{NAMES.get(model, short_name(model))} {METRICS[metric]}"


def _printed(
    value: Value | None, found: _Measured, row: tuple[str, float], model: str, metric: str
) -> Cell | None:
    """What the source prints, with ours where its protocol is ours."""
    printed = value.printed() if value else None
    ours = found.value(row, model, metric) if found.origin.ours else None
    if ours is not None:
        return Cell("measured", ours, printed, point=found.point(row, model))
    return Cell("printed", None, printed) if printed else None


def _measured(
    found: _Measured, row: tuple[str, float], model: str, metric: str, theirs: Collection[str]
) -> Cell | None:
    """Ours alone: of a model that is none of theirs, or under another protocol than theirs."""
    ours = found.value(row, model, metric)
    how = "measured" if model in theirs else "twin"
    return None if ours is None else Cell(how, ours, point=found.point(row, model))


class _Measured:
    """Points of the runs that answer to the rows of a source."""

    def __init__(self, source: Source, origin: Origin, rows: Sequence[tuple[str, float]]) -> None:
        self.source, self.origin = source, origin
        self._by_model = {
            model: alike([p for p in of_model(source.points, model) if self._any(p, rows)])
            for model in {p.setting.model for p in source.points}
        }

    @property
    def used(self) -> list[Point]:
        """All of them, where something sparse is among them."""
        every = self._by_model.values()
        return [p for points in every if any(not p.dense for p in points) for p in points]

    def value(self, row: tuple[str, float], model: str, metric: str) -> float | None:
        """The metric of a row's point; None where it was not measured."""
        point = self.point(row, model)
        if point is None:
            return None
        if metric in _TASKS:
            return accuracy(self.source, point, metric)
        if metric == "below_wanda":
            wanda = self.point(("wanda", row[1]), model)
            return wanda.ppl - point.ppl if wanda else None
        if metric == "of_16_bit":
            stored = self.source.row(point)
            return stored["weight_bytes"] / stored["weight_bytes_16bit"]
        ours = {"ppl": point.ppl, "delta_ppl": point.delta_ppl, "active": point.mlp_density}
        return ours.get(metric)

    def point(self, row: tuple[str, float], model: str) -> Point | None:
        """Of several, the one whose shares were found as the source finds them, or the first."""
        answers = [p for p in self._by_model.get(model, ()) if self._is(p, *row)]
        return min(answers, key=self._preference, default=None)

    def _any(self, point: Point, rows: Sequence[tuple[str, float]]) -> bool:
        beside = [("wanda", s) for _, s in rows] if self.origin.scope == "static" else []
        return any(self._is(point, *row) for row in (*rows, *beside))

    def _is(self, point: Point, method: str, sparsity: float) -> bool:
        if row_name(point).removesuffix(" unstructured") != method:
            return False
        if not (math.isfinite(point.ppl) and (unchanged(point) or method == _CODE)):
            return False
        dense_part = point.setting.dense_tokens / point.setting.window_tokens
        if abs(dense_part - self.origin.dense_part) > _ROUNDING:
            return False
        if not sparsity:
            return point.dense or method == _CODE
        if self.origin.scope == "ppl":
            return self._parameters(point).get("ppl_percent") == 100 * sparsity
        return math.isclose(point.density, 1 - sparsity, abs_tol=1e-9) and self._reaches(point)

    def _reaches(self, point: Point) -> bool:
        """Whether it prunes what the source's sparsity is of, attention as much as the MLP."""
        attention = self._parameters(point).get("attention", "none")
        if self.origin.scope in ("mlp", "static"):
            return attention == "none"
        return attention in ("same", point.density)

    def _preference(self, point: Point) -> tuple[bool, str]:
        shares = self._parameters(point).get("shares")
        return shares != SEARCHED.get(point.method, "uniform"), point.point_key

    def _parameters(self, point: Point) -> dict[str, Any]:
        return json.loads(self.source.row(point).get("parameters") or "{}")
