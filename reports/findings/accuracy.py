"""Accuracy beside perplexity: what each configuration scores on downstream tasks, against dense.

A perplexity that hardly rises may hide a loss of accuracy: such configurations are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.findings.points import Point, dense_start, weights_label
from reports.results import DENSE, STDERR, Row

SMALL_LOSS = 0.05
"""A perplexity of at most this share above the dense one looks harmless."""
SURE = 1.96
"""Standard errors of the difference from which a lower accuracy counts as lost."""


_Errors = Mapping[tuple[tuple[str, str], str], float]
"""Standard errors of the dense model by its weights and the task."""


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on one task, with its standard error, and that of the dense model. NaN: unknown."""

    task: str
    value: float
    stderr: float
    dense: float
    dense_stderr: float

    @property
    def change(self) -> float:
        return self.value - self.dense

    @property
    def lost(self) -> bool:
        """Lower than the dense model's by more than chance explains.

        The two are taken as independent, which is cautious: they answer the same questions."""
        error = math.hypot(self.stderr, self.dense_stderr)
        return self.change < -SURE * error


@dataclass(frozen=True, slots=True)
class Scored:
    """A configuration with its scores; devices that differ in no mask share it."""

    weights: str
    label: str
    dense: bool
    ppl: float
    delta_ppl: float
    relative: float
    """Rise of perplexity over the dense one, as a share of it."""
    scores: tuple[Score, ...]

    @property
    def change(self) -> float:
        """Mean change of accuracy over the tasks that are known."""
        changes = [s.change for s in self.scores if math.isfinite(s.change)]
        return sum(changes) / len(changes) if changes else math.nan

    @property
    def hidden(self) -> tuple[Score, ...]:
        """Tasks whose loss the perplexity does not show."""
        if self.dense or not self.relative <= SMALL_LOSS:
            return ()
        return tuple(score for score in self.scores if score.lost)


def scored(points: Sequence[Point], rows: Sequence[Row], tasks: Sequence[str]) -> list[Scored]:
    """Every configuration with an accuracy on one of `tasks`, in the order of the table; equal ones
    once. `rows[i]` is the row of the table that `points[i]` was made of."""
    pairs = list(zip(points, rows, strict=True))
    errors = _dense_errors(pairs, tasks)
    configurations: dict[tuple[str, str], Scored] = {}
    for point, row in pairs:
        scores = tuple(_score(row, point, task, errors) for task in tasks)
        if any(math.isfinite(score.value) for score in scores):
            configuration = _scored(point, scores)
            configurations.setdefault((configuration.weights, configuration.label), configuration)
    return list(configurations.values())


def _scored(point: Point, scores: tuple[Score, ...]) -> Scored:
    relative = point.delta_ppl / point.ppl_dense if point.ppl_dense else math.nan
    return Scored(
        weights=weights_label(point.setting),
        label=masks_label(point),
        dense=point.dense,
        ppl=point.ppl,
        delta_ppl=point.delta_ppl,
        relative=relative,
        scores=scores,
    )


def masks_label(point: Point) -> str:
    """What can change a mask, and so an accuracy: of a device only the DRAM, by a cache."""
    if point.dense:
        return "dense"
    parts = [point.series]
    parts += [f"density {point.density:g}"] if math.isfinite(point.density) else []
    parts += [point.variant] if point.variant else []
    parts += [point.allocation] if point.allocation not in ("", "none", "paper") else []
    parts += [dense_start(point.setting)] if point.setting.dense_tokens else []
    if point.cache_aware:
        parts += [f"γ {point.gamma:g}", point.policy, f"{point.setting.dram_gb:g} GB"]
    return " · ".join(parts)


def _score(row: Row, point: Point, task: str, errors: _Errors) -> Score:
    return Score(
        task=task,
        value=_number(row.get(f"acc_{task}")),
        stderr=_number(row.get(f"acc_{task}{STDERR}")),
        dense=_number(row.get(f"acc_{task}{DENSE}")),
        dense_stderr=errors.get((point.setting.weights, task), math.nan),
    )


def _dense_errors(pairs: Sequence[tuple[Point, Row]], tasks: Sequence[str]) -> _Errors:
    """Standard errors of the dense model, where it is among the points."""
    return {
        (point.setting.weights, task): _number(row.get(f"acc_{task}{STDERR}"))
        for point, row in pairs
        if point.dense
        for task in tasks
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
